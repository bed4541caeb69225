// A question a line on standard input as {"op", ...}, an answer a line on standard output, both JSON.
// An answer is {"answer"} or {"error"}; whatever Grafana's code logs goes to standard error.
'use strict';
const readline = require('readline');
const { settings } = require('./stand_ins');

console.error = console.warn = console.log = console.info = (...words) =>
  process.stderr.write(`${words.map(String).join(' ')}\n`);
const fields = require('./fields');
const operations = {
  units: fields.units,
  fields: fields.fields,
  links: require('./links'),
  variables: require('./variables'),
  exemplars: require('./exemplars'),
};
const defaults = { ...settings };

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let reply;
    try {
      const { op, settings: given, ...question } = JSON.parse(line);
      Object.assign(settings, defaults, given);
      reply = { answer: await operations[op](question) };
    } catch (error) {
      reply = { error: error.stack };
    }
    process.stdout.write(`${JSON.stringify(reply)}\n`);
  }
}

main();
