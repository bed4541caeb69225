// {frame, destinations, settings.dataSources} -> links of each exemplar, by transformV2 of
// @grafana/prometheus and getLinks of @grafana/data.
'use strict';
const data = require('@grafana/data');
const path = require('path');
const { scene, replacer } = require('./scene');

const { transformV2 } = require(
  path.join(path.dirname(require.resolve('@grafana/prometheus')), 'result_transformer.cjs')
);

module.exports = function exemplars({ frame, destinations, range }) {
  const replaceVariables = replacer(scene([], {}, range));
  const read = data.dataFrameFromJSON(frame);
  const request = { targets: [{ refId: frame.schema.refId }] };
  const answer = transformV2({ data: [read] }, request, {
    exemplarTraceIdDestinations: destinations,
  });
  const [shown] = data.applyFieldOverrides({
    data: answer.data,
    fieldConfig: { defaults: {}, overrides: [] }, // annotations get the links of the source alone
    replaceVariables,
    theme: data.createTheme(),
    timeZone: 'utc',
  });
  const linked = shown.fields.filter((field) => field.config.links?.length);
  return Array.from({ length: shown.length }, (_, row) =>
    linked.flatMap((field) =>
      field.getLinks({ valueRowIndex: row }).map(({ href, title }) => ({ href, title }))
    )
  );
};
