// {cases: [{templating, values, texts: [{text, language}]}]} -> the texts with variables filled in,
// by the rules of the data source that gets them.
//
// PromQL: the default format is interpolateQueryExpr of @grafana/prometheus. TraceQL: `pipe`, as
// the Tempo data source asks for (datasource.ts, applyVariables; it is not published on npm).
'use strict';
const path = require('path');
const { scene, replacer } = require('./scene');

// Its index loads editors; the two files that matter do not.
const prometheus = (file) =>
  require(path.join(path.dirname(require.resolve('@grafana/prometheus')), file));
const escaping = prometheus('escaping.cjs');
const { parser } = require('@prometheus-io/lezer-promql');

const formats = { promql: escaping.interpolateQueryExpr, traceql: 'pipe', plain: undefined };

// Where Prometheus' own grammar for editors stops to understand; null when it understands all.
function mistake(text) {
  let found = null;
  parser.parse(text).iterate({
    enter: (node) => {
      if (node.type.isError && found === null) found = node.from;
    },
  });
  return found;
}

module.exports = function variables({ cases }) {
  return cases.map(({ templating, values, range, scoped, texts }) => {
    const replace = replacer(scene(templating, values, range));
    const vars = Object.fromEntries(
      Object.entries(scoped).map(([name, value]) => [name, { text: value, value }])
    );
    return texts.map(({ text, language }) => {
      const filled = replace(text, vars, formats[language]);
      return { text: filled, mistake: language === 'promql' ? mistake(filled) : null };
    });
  });
};
