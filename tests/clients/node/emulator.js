'use strict';

/** Where the emulator is, how to reach it over each transport, and what its bucket holds. */

const aiplatform = require('@google-cloud/aiplatform');
const {Storage} = require('@google-cloud/storage');
const {setTimeout: sleep} = require('node:timers/promises');

const {EMULATOR_HTTP, EMULATOR_GRPC, EMULATOR_TLS, EMULATOR_PROJECT, EMULATOR_BUCKET} = process.env;
const PATIENCE_MS = 300_000;

/** google-gax, as @google-cloud/aiplatform itself loads it: the only one whose classes fit. */
const gax = require(require.resolve('google-gax', {paths: [require.resolve('@google-cloud/aiplatform')]}));

function hostAndPort(address) {
  const [apiEndpoint, port] = address.split(':');
  return {apiEndpoint, port: Number(port)};
}

/** The client options of each transport. All but the first take the account that the environment names. */
const TRANSPORTS = {
  'gRPC': {...hostAndPort(EMULATOR_GRPC), sslCreds: gax.grpc.credentials.createInsecure()},
  'gRPC over TLS': hostAndPort(EMULATOR_TLS),
  'REST': {...hostAndPort(EMULATOR_HTTP.replace('http://', '')), fallback: true, protocol: 'http'},
  'REST over TLS': {...hostAndPort(EMULATOR_TLS), fallback: true},
};

const parent = `projects/${EMULATOR_PROJECT}/locations/us-central1`;

/** A job as the documentation's sample writes it. */
function job(model, source, others = {}) {
  return {
    displayName: 'node suite',
    model: `${parent}/models/${model}`,
    inputConfig: {instancesFormat: 'jsonl', gcsSource: {uris: [`gs://${EMULATOR_BUCKET}/${source}`]}},
    outputConfig: {
      predictionsFormat: 'jsonl',
      gcsDestination: {outputUriPrefix: `gs://${EMULATOR_BUCKET}/out/node`},
    },
    ...others,
  };
}

/** Wait until a job is in one of some states; the job. */
async function waitFor(client, name, ...states) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const [found] = await client.getBatchPredictionJob({name});
    if (states.includes(found.state)) return found;
    if (Date.now() > deadline) throw new Error(`${name} is still ${found.state}`);
    await sleep(200);
  }
}

/** The labels of all predictions that a job wrote, read with Google's storage client. */
async function labelsIn(directory) {
  const [, bucket, prefix] = directory.match(/^gs:\/\/([^/]+)\/(.*)$/);
  const [files] = await new Storage().bucket(bucket).getFiles({prefix: `${prefix}/predictions_`});
  const texts = await Promise.all(files.map(async file => (await file.download()).toString()));
  const lines = texts.join('').trim().split('\n').map(line => JSON.parse(line));
  return new Set(lines.flatMap(line => line.prediction.map(one => one.displayName)));
}

/** What an error's `code` is. Up to google-gax 5 the REST client gives the HTTP status, else it is gRPC's code. */
const GRPC_CODES = {NOT_FOUND: 5, INVALID_ARGUMENT: 3, FAILED_PRECONDITION: 9};
const HTTP_STATUSES = {NOT_FOUND: 404, INVALID_ARGUMENT: 400, FAILED_PRECONDITION: 400};
const codesOver = ({fallback}) => (fallback && parseInt(gax.version) < 6 ? HTTP_STATUSES : GRPC_CODES);

module.exports = {aiplatform, TRANSPORTS, codesOver, parent, job, waitFor, labelsIn, bucket: EMULATOR_BUCKET};
