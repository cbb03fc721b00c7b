// A job against the emulator's image, over gRPC in plain text. Run it with `npm test`; it needs Docker.
import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';

import {v1} from '@google-cloud/aiplatform';
import {credentials} from '@grpc/grpc-js';
import {GenericContainer, Wait} from 'testcontainers';

const IMAGE = process.env.EMULATOR_IMAGE ?? 'vertex-batch-emulator:slim';
const PARENT = 'projects/my-project/locations/us-central1';
let container;
let jobs;

before(async () => {
  container = await new GenericContainer(IMAGE)
    .withExposedPorts(8080, 8081)
    .withEnvironment({VERTEX_EMULATOR_PACE: 'immediate'}) // a GET of a job is answered when it has ended
    .withWaitStrategy(Wait.forHttp('/_emulator/ready', 8080))
    .start();
  jobs = new v1.JobServiceClient({
    apiEndpoint: container.getHost(),
    port: container.getMappedPort(8081),
    sslCreds: credentials.createInsecure(),
  });
});

after(async () => {
  await jobs?.close();
  await container?.stop();
});

async function post(path, body) {
  const url = `http://${container.getHost()}:${container.getMappedPort(8080)}${path}`;
  const headers = {'Content-Type': 'application/json'};
  const response = await fetch(url, {method: 'POST', headers, body: JSON.stringify(body)});
  assert.equal(response.status, 200, await response.text());
}

test('predictions come back', async () => {
  await post('/storage/v1/b?project=my-project', {name: 'my-bucket'});
  await post('/upload/storage/v1/b/my-bucket/o?uploadType=media&name=instances.jsonl', {
    content: 'gs://my-bucket/cat.mp4',
    mimeType: 'video/mp4',
    timeSegmentStart: '0s',
    timeSegmentEnd: 'Infinity',
  });
  await post('/_emulator/canned', {
    parent: PARENT,
    modelId: 'pets',
    objective: 'object_tracking',
    lines: [{video: '*', prediction: []}],
  });

  const [job] = await jobs.createBatchPredictionJob({
    parent: PARENT,
    batchPredictionJob: {
      displayName: 'with Testcontainers',
      model: `${PARENT}/models/pets`,
      inputConfig: {instancesFormat: 'jsonl', gcsSource: {uris: ['gs://my-bucket/instances.jsonl']}},
      outputConfig: {
        predictionsFormat: 'jsonl',
        gcsDestination: {outputUriPrefix: 'gs://my-bucket/output'},
      },
    },
  });
  const [done] = await jobs.getBatchPredictionJob({name: job.name});

  assert.equal(done.state, 'JOB_STATE_SUCCEEDED');
  assert.equal(Number(done.completionStats.successfulCount), 1);
});
