'use strict';

/** Batch prediction jobs and models: each version of the API over each transport. */

const assert = require('node:assert/strict');
const {describe, it} = require('node:test');
const {aiplatform, TRANSPORTS, codesOver, parent, job, waitFor, labelsIn, bucket} = require('./emulator');

const {params} = aiplatform.protos.google.cloud.aiplatform.v1.schema.predict;
const TERMINAL = ['JOB_STATE_SUCCEEDED', 'JOB_STATE_FAILED', 'JOB_STATE_CANCELLED'];

for (const version of ['v1', 'v1beta1']) {
  for (const [transport, options] of Object.entries(TRANSPORTS)) {
    describe(`${version}, ${transport}`, () => suite(aiplatform[version], transport, options, version));
  }
}

function suite({JobServiceClient, ModelServiceClient}, transport, options, version) {
  const jobs = new JobServiceClient(options);
  const models = new ModelServiceClient(options);
  const codes = codesOver(options);

  const create = batchPredictionJob => jobs.createBatchPredictionJob({parent, batchPredictionJob});

  it('runs the documented object tracking job', async () => {
    const modelParameters = new params.VideoObjectTrackingPredictionParams({
      confidenceThreshold: 0.5,
    }).toValue();
    const [created] = await create(job('video-object-tracking', 'object-tracking.jsonl', {modelParameters}));
    assert.equal(created.state, 'JOB_STATE_PENDING');
    assert.equal(created.modelParameters.structValue.fields.confidenceThreshold.numberValue, 0.5);
    const done = await waitFor(jobs, created.name, ...TERMINAL);
    assert.equal(done.state, 'JOB_STATE_SUCCEEDED');
    assert.equal(Number(done.completionStats.successfulCount), 1);
    assert.deepEqual(await labelsIn(done.outputInfo.gcsOutputDirectory), new Set(['cat', 'dog']));
  });

  it('runs the documented action recognition job', async () => {
    const [created] = await create(job('video-action-recognition', 'action-recognition.jsonl'));
    const done = await waitFor(jobs, created.name, ...TERMINAL);
    assert.equal(done.state, 'JOB_STATE_SUCCEEDED');
    assert.deepEqual(await labelsIn(done.outputInfo.gcsOutputDirectory), new Set(['swing', 'jump']));
  });

  it('lists with a filter, page by page', async () => {
    const displayName = `listed ${version} ${transport} ${Date.now()}`;
    const created = await Promise.all(
      [1, 2, 3].map(() => create(job('video-object-tracking', 'missing.jsonl', {displayName})))
    );
    const names = created.map(([one]) => one.name).sort();
    const request = {parent, filter: `display_name="${displayName}"`, pageSize: 2};
    const [page, next] = await jobs.listBatchPredictionJobs(request, {autoPaginate: false});
    assert.equal(page.length, 2);
    assert.ok(next.pageToken);
    const listed = [];
    for await (const found of jobs.listBatchPredictionJobsAsync(request)) listed.push(found.name);
    assert.deepEqual(listed.sort(), names);
    const readMask = {paths: ['name', 'create_time']};
    const [masked] = await jobs.listBatchPredictionJobs({...request, readMask});
    assert.ok(masked.every(found => found.name && found.createTime && !found.displayName));
  });

  it('cancels a running job and deletes it with its operation', async () => {
    const [{name}] = await create(job('video-object-tracking', 'long.jsonl'));
    await waitFor(jobs, name, 'JOB_STATE_RUNNING');
    await assert.rejects(jobs.deleteBatchPredictionJob({name}), {code: codes.FAILED_PRECONDITION});
    await jobs.cancelBatchPredictionJob({name});
    assert.equal((await waitFor(jobs, name, ...TERMINAL)).state, 'JOB_STATE_CANCELLED');
    const [operation] = await jobs.deleteBatchPredictionJob({name});
    await operation.promise();
    assert.equal(operation.done, true);
    await assert.rejects(jobs.getBatchPredictionJob({name}), {code: codes.NOT_FOUND});
  });

  it('refuses with the codes of its errors', async () => {
    const name = `${parent}/batchPredictionJobs/1`;
    await assert.rejects(jobs.getBatchPredictionJob({name}), error => {
      assert.equal(error.code, codes.NOT_FOUND);
      assert.match(error.message, /does not exist/);
      return true;
    });
    const nameless = job('video-object-tracking', 'object-tracking.jsonl', {displayName: ''});
    await assert.rejects(create(nameless), error => {
      assert.equal(error.code, codes.INVALID_ARGUMENT);
      assert.match(error.message, /display_name/);
      return true;
    });
  });

  it('uploads, reads and deletes a model', async () => {
    const model = {displayName: 'uploaded', artifactUri: `gs://${bucket}/model`};
    const [upload] = await models.uploadModel({parent, model});
    const [{model: name}] = await upload.promise();
    assert.equal((await models.getModel({name: `${name}@1`}))[0].displayName, 'uploaded');
    const [listed] = await models.listModels({parent});
    assert.ok(listed.some(found => found.name === name));
    const [removal] = await models.deleteModel({name});
    await removal.promise();
    await assert.rejects(models.getModel({name}), {code: codes.NOT_FOUND});
  });
}
