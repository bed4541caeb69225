// A scene with a dashboard's variables at chosen values, and text with them filled in.
//
// Grafana makes the same scene of a classic dashboard (its own code for that is not published:
// `variable` restates the part that matters here). Everything after that is @grafana/scenes.
'use strict';
const scenes = require('@grafana/scenes');

const { sceneGraph } = scenes;

// A variable of classic JSON; `chosen` is {value, text}, as the selection box leaves it.
function variable(model, chosen) {
  const common = { name: model.name, value: chosen.value, text: chosen.text ?? chosen.value };
  const many = {
    ...common,
    isMulti: model.multi,
    includeAll: model.includeAll,
    allValue: model.allValue || undefined,
    options: (chosen.options ?? []).map((value) => ({ value, label: value })),
  };
  switch (model.type) {
    case 'textbox':
      return new scenes.TextBoxVariable(common);
    case 'constant':
      return new scenes.ConstantVariable(common);
    case 'interval':
      return new scenes.IntervalVariable({ name: model.name, value: chosen.value, intervals: [] });
    case 'custom':
      return new scenes.CustomVariable({ ...many, query: model.query });
    case 'query':
      return new scenes.QueryVariable({ ...many, query: model.query, datasource: model.datasource });
    default:
      throw new Error(`no sample for a variable of type ${model.type}`);
  }
}

// list: `templating.list` of the dashboard; values: variable name -> {value, text, options}.
function scene(list, values, range) {
  return new scenes.EmbeddedScene({
    $variables: new scenes.SceneVariableSet({
      variables: list.map((model) => variable(model, values[model.name])),
    }),
    $timeRange: new scenes.SceneTimeRange(range),
    body: new scenes.SceneCanvasText({ text: '' }),
  });
}

// What applyFieldOverrides and data sources call to fill text in.
const replacer = (root) => (text, scopedVars, format) =>
  sceneGraph.interpolate(root, text, scopedVars, format);

module.exports = { scene, replacer };
