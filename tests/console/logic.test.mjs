import assert from "node:assert/strict";
import { test } from "node:test";

const CONSOLE = "../../emulator/api/console";
const { clausesOf, hasClause, modelClause, stateClause, todayClause, toggleClause } = await import(`${CONSOLE}/filter.js`);
const { byteSize, countText, describeState, duration, elapsedSeconds, localTime, plural } = await import(`${CONSOLE}/format.js`);
const { merge, newest } = await import(`${CONSOLE}/list.js`);
const { bodyOf, curlOf, curlOfEntry, emptyForm, formOf, headersOf, mistakesOf, mistakesOfAnswer, pythonOf } = await import(`${CONSOLE}/request.js`);

const PLACE = { project: "p", location: "l" };

test("filters are clauses joined by AND", () => {
  assert.deepEqual(clausesOf('state="A" AND display_name:"x AND y"  AND labels.a=b'), ['state="A"', 'display_name:"x AND y"', "labels.a=b"]);
  assert.deepEqual(clausesOf(""), []);
  assert.deepEqual(clausesOf("(a=1 AND b=2) AND c=3"), ["(a=1 AND b=2)", "c=3"]);
  assert.deepEqual(clausesOf('a=1 OR b="2 AND 3"'), ['a=1 OR b="2 AND 3"']);
  assert.deepEqual(clausesOf('display_name="a\\" AND b" AND c=1'), ['display_name="a\\" AND b"', "c=1"]);
});

test("a chip adds its clause, replaces another of its field, and takes itself away", () => {
  const failed = toggleClause('labels.a="b"', stateClause("FAILED"));
  assert.equal(failed, 'labels.a="b" AND state="JOB_STATE_FAILED"');
  assert.ok(hasClause(failed, stateClause("FAILED")));
  assert.equal(toggleClause(failed, stateClause("SUCCEEDED")), 'labels.a="b" AND state="JOB_STATE_SUCCEEDED"');
  assert.equal(toggleClause(failed, stateClause("FAILED")), 'labels.a="b"');
  assert.equal(toggleClause("a=1 OR b=2", stateClause("FAILED")), '(a=1 OR b=2) AND state="JOB_STATE_FAILED"');
  assert.equal(toggleClause("", stateClause("FAILED")), 'state="JOB_STATE_FAILED"');
});

test("names in clauses are escaped", () => {
  assert.equal(modelClause('say "hi" \\'), 'model_display_name="say \\"hi\\" \\\\"');
  assert.match(todayClause(new Date("2026-05-06T12:00:00Z")), /^create_time>="2026-05-0[56]T\d\d:00:00Z"$/);
});

test("states have words, a colour and a shape", () => {
  const stats = { successfulCount: "3", failedCount: "1", incompleteCount: "8" };
  assert.deepEqual(describeState({ state: "JOB_STATE_RUNNING", completionStats: stats }), { words: "Running 4/12", colour: "blue", shape: "half" });
  const ended = { state: "JOB_STATE_SUCCEEDED", completionStats: { successfulCount: "3", failedCount: "2" } };
  assert.equal(describeState(ended).words, "Succeeded with 2 failed");
  assert.equal(describeState({ state: "JOB_STATE_PENDING" }, true).words, "Held in pending");
  assert.equal(describeState({ state: "JOB_STATE_NEW" }).words, "NEW");
  assert.equal(countText({ done: 4, failed: 1, total: 5 }), "4 of 5, 1 failed");
});

test("times and sizes", () => {
  assert.deepEqual([0, 1.24, 9.96, 65, 3725, NaN].map(duration), ["0.0 s", "1.2 s", "10 s", "1 min 05 s", "1 h 02 min", ""]);
  assert.deepEqual([0, 999, 1000, 999_600, 12_345_678].map(byteSize), ["0 B", "999 B", "1.0 kB", "1.0 MB", "12 MB"]);
  assert.equal(localTime("nonsense"), "nonsense");
  assert.equal(plural(1, "job"), "1 job");
  assert.equal(plural(12000, "job"), "12,000 jobs");
  const job = { createTime: "2026-01-01T00:00:00Z", startTime: "2026-01-01T00:00:10Z" };
  assert.equal(elapsedSeconds(job, Date.parse("2026-01-01T00:00:12Z")), 2);
});

const job = (name, second, changes = {}) => ({ name, createTime: `2026-01-01T00:00:0${second}Z`, ...changes });

test("rows stay where they are while jobs change, come and go", () => {
  const shown = [job("c", 3), job("b", 2), job("a", 1)];
  const found = merge(shown, [job("e", 5), job("d", 4), job("c", 3, { state: "X" }), job("a", 1)]);
  assert.deepEqual(found.jobs.map(({ name }) => name), ["c", "b", "a"]);
  assert.equal(found.jobs[0].state, "X");
  assert.deepEqual(found.fresh.map(({ name }) => name), ["e", "d"]);
  assert.deepEqual(found.lost, ["b"]);
  assert.deepEqual(newest([[job("c", 3), job("a", 1)], [job("b", 2)]], 2).map(({ name }) => name), ["c", "b"]);
});

const form = (changes = {}) => ({ ...emptyForm(), name: "job", model: "m", source: "gs://b/in.jsonl", destination: "gs://b/out", ...changes });

test("the body has what is set and nothing else", () => {
  assert.deepEqual(bodyOf(form(), PLACE, "object_tracking"), {
    displayName: "job",
    model: "projects/p/locations/l/models/m",
    inputConfig: { instancesFormat: "jsonl", gcsSource: { uris: ["gs://b/in.jsonl"] } },
    outputConfig: { predictionsFormat: "jsonl", gcsDestination: { outputUriPrefix: "gs://b/out" } },
  });
  const full = bodyOf(
    form({ version: "2", source: " gs://b/1 \n\ngs://b/2", parameters: { confidenceThreshold: "0.5", shotClassification: "true", minBoundingBoxSize: "1" }, labels: "a = b=c\nd=", batchSize: "4" }),
    PLACE,
    "classification",
  );
  assert.equal(full.model, "projects/p/locations/l/models/m@2");
  assert.deepEqual(full.inputConfig.gcsSource.uris, ["gs://b/1", "gs://b/2"]);
  assert.deepEqual(full.modelParameters, { confidenceThreshold: 0.5, shotClassification: true });
  assert.deepEqual(full.labels, { a: "b=c", d: "" });
  assert.deepEqual(full.manualBatchTuningParameters, { batchSize: 4 });
});

test("a job becomes the form that makes it again", () => {
  const body = bodyOf(form({ version: "2", parameters: { confidenceThreshold: "0" }, labels: "a=b", batchSize: "3" }), PLACE, "action_recognition");
  assert.deepEqual(bodyOf(formOf(body), PLACE, "action_recognition"), body);
});

test("mistakes are named by field", () => {
  assert.deepEqual(mistakesOf(form(), "object_tracking"), {});
  const empty = mistakesOf({ ...emptyForm(), name: " " }, "");
  assert.deepEqual(Object.keys(empty), ["name", "model", "source", "destination"]);
  const wrong = mistakesOf(form({ name: "x".repeat(129), source: "gs://b/a\nb", parameters: { confidenceThreshold: "1.5", maxPredictions: "0" }, labels: "team", batchSize: "-1", faults: "[" }), "object_tracking");
  assert.deepEqual(Object.keys(wrong), ["name", "source", "confidenceThreshold", "maxPredictions", "labels", "batchSize", "faults"]);
  assert.deepEqual(mistakesOf(form({ name: "😀".repeat(128) }), ""), {});
});

test("the server's violations go to their fields", () => {
  const violation = (field, description) => ({ field: `batch_prediction_job.${field}`, description });
  const details = [{ fieldViolations: [violation("input_config.gcs_source.uris[1]", "one"), violation("model_parameters.confidenceThreshold", "two"), violation("model", "three"), violation("strange", "four")] }];
  assert.deepEqual(mistakesOfAnswer({ message: "all", details }), { mistakes: { source: "one", confidenceThreshold: "two", model: "three" }, rest: "four" });
  assert.deepEqual(mistakesOfAnswer({ message: "The Model does not exist." }), { mistakes: {}, rest: "The Model does not exist." });
});

test("the header asks for pace and faults", () => {
  assert.deepEqual(headersOf(form()), {});
  const header = headersOf(form({ pace: "immediate", faults: '[{"kind": "fail-job"}]' }))["x-goog-emulator-instructions"];
  assert.deepEqual(JSON.parse(header), { pace: "immediate", faults: [{ kind: "fail-job" }] });
});

test("commands quote what they are given", () => {
  const body = bodyOf(form({ name: "it's $(rm)" }), PLACE, "");
  assert.ok(curlOf("http://h", PLACE, body).includes(`it'\\''s $(rm)`));
  assert.ok(pythonOf("http://h", PLACE, body).includes(`job_display_name="it's $(rm)"`));
  const parameters = bodyOf(form({ parameters: { shotClassification: "false" } }), PLACE, "classification");
  assert.ok(pythonOf("http://h", PLACE, parameters).includes('model_parameters={"shotClassification": False}'));
});

test("calls of the journal become commands", () => {
  const entry = (rpc, request) => curlOfEntry("http://h", { method: `S/${rpc}`, version: "v1beta1", request });
  assert.equal(entry("GetModel", { name: "projects/p/x" }), "curl -G 'http://h/v1beta1/projects/p/x'");
  assert.equal(entry("ListModels", { parent: "projects/p/locations/l", filter: "a=b" }), "curl -G 'http://h/v1beta1/projects/p/locations/l/models' --data-urlencode 'filter=a=b'");
  assert.equal(entry("DeleteModel", { name: "n" }), "curl -X DELETE 'http://h/v1beta1/n'");
  assert.equal(entry("CancelBatchPredictionJob", { name: "n" }), "curl -X POST 'http://h/v1beta1/n:cancel' -H 'Content-Type: application/json' -d '{}'");
  assert.ok(entry("CreateBatchPredictionJob", { parent: "projects/p/locations/l", batchPredictionJob: { a: 1 } }).includes("/v1/projects/p/locations/l/batchPredictionJobs"));
  assert.equal(entry("UpdateModel", { model: {} }), "");
  assert.equal(entry("GetModel", null), "");
});
