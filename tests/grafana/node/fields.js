// Field configuration as Grafana evaluates it, and which of its options Grafana does not know.
//
// The list of standard options is in Grafana's core, which is not published: `standard` restates its
// ids, the functions behind them are @grafana/data's. A panel's own options (custom.*) are taken as
// they are; what their plugin makes of them is not checked here.
'use strict';
const data = require('@grafana/data');

const standard = {
  displayName: data.displayNameOverrideProcessor,
  description: data.stringOverrideProcessor,
  unit: data.unitOverrideProcessor,
  min: data.numberOverrideProcessor,
  max: data.numberOverrideProcessor,
  decimals: data.numberOverrideProcessor,
  noValue: data.stringOverrideProcessor,
  thresholds: data.thresholdsOverrideProcessor,
  mappings: data.valueMappingsOverrideProcessor,
  links: data.dataLinksOverrideProcessor,
  actions: data.identityOverrideProcessor,
  color: data.identityOverrideProcessor,
  filterable: data.booleanOverrideProcessor,
  fieldMinMax: data.booleanOverrideProcessor,
};
const NUMERIC = ['unit', 'min', 'max', 'decimals'];
// Panels that draw without any field configuration: overrides never reach them.
const WITHOUT_FIELD_CONFIG = ['traces', 'text', 'dashlist', 'alertlist', 'news'];

// The options that a panel of this type has; custom: names without `custom.`.
function registry(panelType, custom) {
  const items = WITHOUT_FIELD_CONFIG.includes(panelType)
    ? []
    : [
        ...Object.entries(standard).map(([id, process]) => ({
          id,
          path: id,
          name: id,
          process,
          settings: id === 'displayName' ? { expandTemplateVars: true } : {},
          shouldApply: NUMERIC.includes(id)
            ? (field) => field.type === data.FieldType.number
            : () => true,
        })),
        ...custom.map((name) => ({
          id: `custom.${name}`,
          path: name,
          name,
          isCustom: true,
          process: data.identityOverrideProcessor,
          settings: {},
          shouldApply: () => true,
        })),
      ];
  return new data.FieldConfigOptionsRegistry(() => items);
}

function customNames(fieldConfig) {
  const names = new Set(Object.keys(fieldConfig.defaults?.custom ?? {}));
  for (const rule of fieldConfig.overrides ?? [])
    for (const { id } of rule.properties) if (id.startsWith('custom.')) names.add(id.slice(7));
  return [...names];
}

// Frames with the panel's field configuration applied.
function configured(panel, frames, replaceVariables) {
  const fieldConfig = { defaults: {}, overrides: [], ...panel.fieldConfig };
  return data.applyFieldOverrides({
    data: frames,
    fieldConfig,
    fieldConfigRegistry: registry(panel.type, customNames(fieldConfig)),
    replaceVariables,
    theme: data.createTheme(),
    timeZone: 'utc',
  });
}

// {units: [...]} -> those that Grafana would only append to the number as text.
function units({ units: asked }) {
  const known = new Set();
  for (const group of data.getValueFormats())
    for (const format of group.submenu) known.add(format.value);
  const prefixed = /^(prefix|suffix|time|si|count|currency|bool):./;
  return asked.filter((unit) => !known.has(unit) && !prefixed.test(unit));
}

// {cases: [{panel, values}]} -> how a number field of that panel shows each value, and every id of
// an override that Grafana would ignore.
function fields({ cases }) {
  return cases.map(({ panel, values }) => {
    const frame = data.toDataFrame({ fields: [{ name: 'v', type: 'number', values }] });
    const overrides = panel.fieldConfig?.overrides ?? [];
    const defaults = panel.fieldConfig?.defaults ?? {};
    const [{ fields: shown }] = configured(panel, [frame], (text) => text);
    return {
      unknownOptions: [
        ...Object.keys(defaults).filter((id) => id !== 'custom' && !(id in standard)),
        ...overrides.flatMap((rule) =>
          rule.properties
            .map(({ id }) => id)
            .filter((id) => !id.startsWith('custom.') && !(id in standard))
        ),
      ],
      unknownMatchers: overrides
        .map((rule) => rule.matcher.id)
        .filter((id) => !data.fieldMatchers.getIfExists(id)),
      unknownColours: [defaults.color, ...overrides.flatMap((rule) =>
        rule.properties.filter(({ id }) => id === 'color').map(({ value }) => value))]
        .filter((color) => color?.mode && !data.fieldColorModeRegistry.getIfExists(color.mode))
        .map((color) => color.mode),
      shown: values.map((value) => {
        const display = shown[0].display(value);
        return { text: data.formattedValueToString(display), color: display.color };
      }),
    };
  });
}

module.exports = { configured, units, fields };
