/** The request that creates a job: from the form, and in the forms that people use. No DOM here. */

export const parentOf = ({ project, location }) => `projects/${project}/locations/${location}`;

/** What the objectives take, the common parameters if one is not listed: the member's name, its label, and how it is entered. */
const COMMON = [
  ["confidenceThreshold", "Confidence threshold", { type: "number", min: 0, max: 1, step: 0.01, default: "0" }],
  ["maxPredictions", "Maximum predictions", { type: "number", min: 1, step: 1, default: "50" }],
];
const PARAMETERS = {
  object_tracking: [...COMMON, ["minBoundingBoxSize", "Minimum bounding box size", { type: "number", min: 0, max: 1, step: 0.01, default: "0" }]],
  action_recognition: COMMON,
  classification: [
    COMMON[0],
    ["maxPredictions", COMMON[1][1], { ...COMMON[1][2], default: "10000" }],
    ["segmentClassification", "Segment classification", { type: "choice", default: "true" }],
    ["shotClassification", "Shot classification", { type: "choice", default: "false" }],
    ["oneSecIntervalClassification", "One-second interval classification", { type: "choice", default: "false" }],
  ],
};

/** What a model of this objective takes. */
export const parametersOf = (objective) => PARAMETERS[objective] ?? (objective ? COMMON : []);

/** The objective of a model, by the schema of its predictions. */
export const objectiveOf = (model) => /\/video_([a-z_]+)_\d/.exec(model?.predictSchemata?.predictionSchemaUri ?? "")?.[1] ?? "";

export function emptyForm(now = new Date()) {
  const pad = (number) => String(number).padStart(2, "0");
  const time = [now.getFullYear(), pad(now.getMonth() + 1), pad(now.getDate()), "_", pad(now.getHours()), pad(now.getMinutes()), pad(now.getSeconds())].join("");
  return { name: `untitled_${time}`, model: "", version: "", source: "", destination: "", parameters: {}, labels: "", batchSize: "", pace: "", faults: "" };
}

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

/** The form of a job that is to be made again. */
export function formOf(job) {
  const [model, version = ""] = job.model.split("/").pop().split("@");
  const parameters = Object.fromEntries(Object.entries(job.modelParameters ?? {}).map(([name, value]) => [name, String(value)]));
  return {
    ...emptyForm(),
    name: job.displayName,
    model,
    version,
    parameters,
    source: (job.inputConfig?.gcsSource?.uris ?? []).join("\n"),
    destination: job.outputConfig?.gcsDestination?.outputUriPrefix ?? "",
    labels: Object.entries(job.labels ?? {}).map(([name, value]) => `${name}=${value}`).join("\n"),
    batchSize: String(job.manualBatchTuningParameters?.batchSize ?? ""),
  };
}

/** The body of the request; parameters only where they are set. */
export function bodyOf(form, place, objective) {
  const known = parametersOf(objective).filter(([name]) => (form.parameters[name] ?? "") !== "");
  const parameters = Object.fromEntries(known.map(([name, , { type }]) => [name, valueOf(form.parameters[name], type)]));
  const labels = Object.fromEntries(lines(form.labels).map((line) => line.split(/=(.*)/s).slice(0, 2).map((part) => part.trim())).map(([name, value = ""]) => [name, value]));
  return {
    displayName: form.name.trim(),
    model: `${parentOf(place)}/models/${form.model}${form.version ? `@${form.version}` : ""}`,
    ...(known.length ? { modelParameters: parameters } : {}),
    inputConfig: { instancesFormat: "jsonl", gcsSource: { uris: lines(form.source) } },
    outputConfig: { predictionsFormat: "jsonl", gcsDestination: { outputUriPrefix: form.destination.trim() } },
    ...(form.labels.trim() ? { labels } : {}),
    ...(form.batchSize ? { manualBatchTuningParameters: { batchSize: Number(form.batchSize) } } : {}),
  };
}

const valueOf = (text, type) => (type === "choice" ? text === "true" : Number(text));

/** The header that asks for a pace and for faults, or none. */
export function headersOf(form) {
  const asked = {};
  if (form.pace.trim()) asked.pace = form.pace.trim();
  if (form.faults.trim()) asked.faults = JSON.parse(form.faults);
  return Object.keys(asked).length ? { "x-goog-emulator-instructions": JSON.stringify(asked) } : {};
}

/** What is wrong with a form before the server is asked, by field. */
export function mistakesOf(form, objective) {
  const mistakes = {};
  const length = [...form.name.trim()].length;
  if (!length) mistakes.name = "Enter a name.";
  else if (length > 128) mistakes.name = `The name has ${length} characters; it can have 128.`;
  if (!form.model) mistakes.model = "Select a model.";
  const paths = lines(form.source);
  const wrong = paths.find((path) => !path.startsWith("gs://"));
  if (!paths.length) mistakes.source = "Enter the Cloud Storage path of a JSON Lines file.";
  else if (wrong) mistakes.source = `${wrong} must begin with gs://.`;
  if (!form.destination.trim()) mistakes.destination = "Enter a Cloud Storage path for the results.";
  else if (!form.destination.trim().startsWith("gs://")) mistakes.destination = "The path must begin with gs://.";
  for (const [name, label, { type, min, max }] of parametersOf(objective)) {
    const text = form.parameters[name] ?? "";
    if (type !== "number" || text === "") continue;
    const value = Number(text);
    if (Number.isNaN(value) || value < min || value > (max ?? Infinity)) mistakes[name] = `${label}: ${max === undefined ? `at least ${min}` : `from ${min} to ${max}`}.`;
  }
  const label = lines(form.labels).find((line) => !line.includes("="));
  if (label) mistakes.labels = `${label} is no label; write name=value, one a line.`;
  if (form.batchSize && !/^[1-9]\d*$/.test(form.batchSize)) mistakes.batchSize = "Enter a whole number above 0.";
  try {
    headersOf(form);
  } catch {
    mistakes.faults = 'Enter a JSON list, such as [{"kind": "fail-instance", "instance": 1}].';
  }
  return mistakes;
}

const FIELDS = [
  ["display_name", "name"], ["model_parameters", null], ["manual_batch_tuning_parameters", "batchSize"], ["labels", "labels"],
  ["input_config", "source"], ["output_config", "destination"], ["model", "model"],
];

/** The server's own words about fields, by field of the form; `rest` are those about none. */
export function mistakesOfAnswer(problem) {
  const violations = problem.details?.flatMap((detail) => detail.fieldViolations ?? []) ?? [];
  const mistakes = {};
  const rest = [];
  for (const { field = "", description } of violations) {
    const path = field.replace(/^batch_prediction_job\./, "");
    const known = FIELDS.find(([start]) => path === start || path.startsWith(`${start}.`) || path.startsWith(`${start}[`));
    const name = known && (known[1] ?? path.split(".")[1]);
    if (name) mistakes[name] = [mistakes[name], description].filter(Boolean).join(" ");
    else rest.push(description);
  }
  return { mistakes, rest: violations.length ? rest.join(" ") : problem.message };
}

/** The documentation's request, for the model of object tracking that comes with the emulator. */
export function exampleBody(place) {
  const form = { ...emptyForm(), name: "my-first-job", model: "video-object-tracking", source: "gs://sourcebucket/input.jsonl", destination: "gs://outputbucket/results" };
  return bodyOf({ ...form, parameters: { confidenceThreshold: "0.5" } }, place, "object_tracking");
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The command that sends the request. `headers` are those beyond the content type. */
export function curlOf(origin, place, body, headers = {}) {
  return [
    `curl -X POST ${quoted(`${origin}/v1/${parentOf(place)}/batchPredictionJobs`)}`,
    ...Object.entries({ "Content-Type": "application/json", ...headers }).map(([name, value]) => `  -H ${quoted(`${name}: ${value}`)}`),
    `  -d ${quoted(JSON.stringify(body, null, 2))}`,
  ].join(" \\\n");
}

/** The same with the Python SDK. */
export function pythonOf(origin, place, body) {
  const { displayName, model, modelParameters, inputConfig, outputConfig, labels, manualBatchTuningParameters } = body;
  const options = [
    ["job_display_name", displayName],
    ["gcs_source", inputConfig.gcsSource.uris],
    ["gcs_destination_prefix", outputConfig.gcsDestination.outputUriPrefix],
    ["model_parameters", modelParameters],
    ["labels", labels],
    ["batch_size", manualBatchTuningParameters?.batchSize],
  ].filter(([, value]) => value !== undefined);
  return `from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform

aiplatform.init(
    project=${pythonValue(place.project)},
    location=${pythonValue(place.location)},
    api_endpoint=${pythonValue(origin)},
    api_transport="rest",
    credentials=AnonymousCredentials(),
)
job = aiplatform.Model(${pythonValue(model)}).batch_predict(
${options.map(([name, value]) => `    ${name}=${pythonValue(value)},`).join("\n")}
)
print(job.state)
`;
}

/** A JSON value as Python writes it. */
export function pythonValue(value) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (Array.isArray(value)) return `[${value.map(pythonValue).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, inner]) => `${pythonValue(name)}: ${pythonValue(inner)}`).join(", ")}}`;
  return JSON.stringify(value);
}

const CUSTOM_VERBS = { CancelBatchPredictionJob: "cancel", CancelOperation: "cancel", WaitOperation: "wait", ListModelVersions: "listVersions", DeleteModelVersion: "deleteVersion", MergeVersionAliases: "mergeVersionAliases" };
const COLLECTIONS = { ListBatchPredictionJobs: "batchPredictionJobs", ListModels: "models", ListLocations: "locations", ListOperations: "operations" };

/** The command that makes a call of the journal again over REST; empty where REST has another form for it. */
export function curlOfEntry(origin, { method, version, request }) {
  const rpc = method.split("/").pop();
  const { name, parent, ...rest } = request ?? {};
  const url = (path, verb = "") => quoted(`${origin}/${version || "v1"}/${path}${verb && `:${verb}`}`);
  const query = (members) => Object.entries(members).filter(([, value]) => typeof value !== "object").map(([key, value]) => ` --data-urlencode ${quoted(`${key}=${value}`)}`).join("");
  const body = (value) => ` -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(value))}`;
  if (rpc === "CreateBatchPredictionJob" && parent) return curlOf(origin, placeOf(parent), request.batchPredictionJob);
  if (rpc === "UploadModel" && parent) return `curl -X POST ${url(`${parent}/models`, "upload")}${body(rest)}`;
  if (CUSTOM_VERBS[rpc] && name) {
    const lists = rpc === "ListModelVersions";
    const verb = lists ? "-G" : rpc === "DeleteModelVersion" ? "-X DELETE" : "-X POST";
    return `curl ${verb} ${url(name, CUSTOM_VERBS[rpc])}${lists ? query(rest) : verb === "-X POST" ? body(rest) : ""}`;
  }
  if (COLLECTIONS[rpc] && (parent ?? name)) return `curl -G ${url(`${parent ?? name}/${COLLECTIONS[rpc]}`)}${query(rest)}`;
  if (/^Get/.test(rpc) && name) return `curl -G ${url(name)}${query(rest)}`;
  if (/^Delete/.test(rpc) && name) return `curl -X DELETE ${url(name)}`;
  return "";
}

const placeOf = (parent) => ({ project: parent.split("/")[1], location: parent.split("/")[3] });
