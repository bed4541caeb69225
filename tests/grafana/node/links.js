// {frames, panel, templating, values, range} -> the links of every cell of the panel, in the order
// of Grafana: the panel's transformations, then its field configuration, then getLinks.
//
// Frames are in the JSON of Grafana's backend. Hidden columns are named, since nobody can click there.
'use strict';
const data = require('@grafana/data');
const { firstValueFrom } = require('rxjs');
const { configured } = require('./fields');
const { scene, replacer } = require('./scene');

const transformers = new Map(
  Object.values(data.standardTransformers).map((transformer) => [transformer.id, transformer])
); // one of them has two names there
data.standardTransformersRegistry.setInit(() =>
  [...transformers.values()].map((transformer) => ({
    id: transformer.id,
    name: transformer.name,
    transformation: () => Promise.resolve(transformer),
  }))
);

// A link without an address is none: so does getCellLinks of @grafana/ui 13.2.2, restated here.
const clickable = (field, row) =>
  field
    .getLinks({ valueRowIndex: row })
    .filter((link) => link.href || link.onClick)
    .map(({ href, title, target }) => ({ href, title, target }));

module.exports = async function links({ frames, panel, templating, values, range }) {
  const replace = replacer(scene(templating, values, range));
  data.locationUtil.initialize({
    config: { appSubUrl: '' },
    getVariablesUrlParams: () => ({}),
    getTimeRangeForUrl: () => range,
  });
  const transformations = panel.transformations ?? [];
  const unknown = transformations
    .map(({ id }) => id)
    .filter((id) => !data.standardTransformersRegistry.getIfExists(id));
  if (unknown.length) throw new Error(`unknown transformations: ${unknown}`);
  const read = frames.map((frame) => data.dataFrameFromJSON(frame));
  const context = { interpolate: (text) => replace(text) };
  const moved = await firstValueFrom(data.transformDataFrame(transformations, read, context));
  return configured(panel, moved, replace).map((frame) => ({
    name: frame.name,
    rows: frame.length,
    fields: frame.fields.map((field) => ({
      name: field.name,
      title: data.getFieldDisplayName(field, frame),
      hidden: Boolean(field.config.custom?.hideFrom?.viz || field.config.custom?.hidden),
      cells: Array.from({ length: frame.length }, (_, row) => ({
        text: data.formattedValueToString(field.display(field.values[row])),
        clickable: clickable(field, row),
      })),
    })),
  }));
};
