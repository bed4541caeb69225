// Lets Grafana's libraries load without a browser: empty stand-ins for what only draws.
//
// @grafana/ui and react-router-dom are not installed; whatever is called in them throws, so no
// answer can rest on them. Of @grafana/runtime there is what evaluation reads: switches, the page's
// address and the list of data sources, all given by the test.
'use strict';
const Module = require('module');

const settings = { featureToggles: {}, dataSources: [], search: {} };

function absent(name) {
  const fail = (what) => () => {
    throw new Error(`${name} is a stand-in and was ${what}`);
  };
  return new Proxy(function () {}, {
    get(target, key) {
      if (key === '__esModule') return true;
      if (key === 'prototype') return target.prototype; // base classes are looked at while loading
      return absent(`${name}.${String(key)}`);
    },
    apply: fail('called'),
    construct: fail('constructed'),
  });
}

const runtime = {
  __esModule: true,
  config: {
    appSubUrl: '',
    buildInfo: { version: '13.2.3' },
    bootData: { user: { timezone: 'utc', weekStart: '' } },
    get featureToggles() {
      return settings.featureToggles;
    },
  },
  locationService: { getSearchObject: () => settings.search },
  getDataSourceSrv: () => ({
    getInstanceSettings: (uid) => settings.dataSources.find((source) => source.uid === uid),
  }),
};
const stand_ins = {
  '@grafana/ui': absent('@grafana/ui'),
  '@grafana/runtime': new Proxy(runtime, {
    get: (target, key) => (key in target ? target[key] : absent(`@grafana/runtime.${String(key)}`)),
  }),
  'react-router-dom': absent('react-router-dom'),
};

const load = Module._load;
Module._load = function (request, ...others) {
  return stand_ins[request] || load.call(this, request, ...others);
};
globalThis.IntersectionObserver = class {}; // made while scenes loads
require('@grafana/scenes');
// Only now: packages that draw look for a window while they load, and would want its document.
globalThis.window = globalThis;
globalThis.location = { origin: 'https://grafana.example', search: '', pathname: '/' };
globalThis.navigator ??= { languages: ['en-US'], language: 'en-US' };

module.exports = { settings };
