CREATE TABLE batch_prediction_jobs (
    id bigint NOT NULL,
    project character varying(64) NOT NULL,
    location character varying(64) NOT NULL,
    display_name character varying(128) NOT NULL,
    model_id character varying(128) NOT NULL,
    model_version integer NOT NULL,
    model_display_name character varying(128) NOT NULL,
    model_objective character varying(32) NOT NULL,
    model_folder text NOT NULL,
    labels json NOT NULL,
    document bytea NOT NULL,
    state integer NOT NULL,
    create_time_us bigint NOT NULL,
    update_time_us bigint NOT NULL,
    start_time_us bigint,
    end_time_us bigint,
    successful bigint NOT NULL,
    failed bigint NOT NULL,
    incomplete bigint NOT NULL,
    output_directory text,
    provider character varying(32),
    error bytea,
    partial_failures bytea NOT NULL,
    owner character varying(128),
    lease_expires_us bigint,
    attempts integer NOT NULL,
    pace text NOT NULL,
    stage integer NOT NULL,
    hold_reads integer,
    hold_until_us bigint,
    faults text NOT NULL
);
CREATE TABLE control_notes (
    name character varying(128) NOT NULL,
    value text NOT NULL
);
CREATE TABLE faults (
    number bigint NOT NULL,
    project character varying(64) NOT NULL,
    plan text NOT NULL,
    matched integer NOT NULL,
    used integer NOT NULL,
    fired integer NOT NULL
);
CREATE SEQUENCE faults_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE faults_number_seq OWNED BY faults.number;
CREATE TABLE job_steps (
    number bigint NOT NULL,
    job_id bigint NOT NULL,
    project character varying(64) NOT NULL,
    time_us bigint NOT NULL,
    step character varying(32) NOT NULL,
    text text NOT NULL
);
CREATE SEQUENCE job_steps_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE job_steps_number_seq OWNED BY job_steps.number;
CREATE TABLE model_versions (
    project character varying(64) NOT NULL,
    location character varying(64) NOT NULL,
    model_id character varying(128) NOT NULL,
    version integer NOT NULL,
    aliases json NOT NULL,
    description text NOT NULL,
    labels json NOT NULL,
    folder text NOT NULL,
    digest character varying(128) NOT NULL,
    document bytea NOT NULL,
    create_time_us bigint NOT NULL,
    update_time_us bigint NOT NULL,
    source character varying(128)
);
CREATE TABLE models (
    project character varying(64) NOT NULL,
    location character varying(64) NOT NULL,
    model_id character varying(128) NOT NULL,
    display_name character varying(128) NOT NULL,
    description text NOT NULL,
    labels json NOT NULL,
    create_time_us bigint NOT NULL,
    update_time_us bigint NOT NULL,
    last_version integer NOT NULL
);
CREATE TABLE operations (
    id bigint NOT NULL,
    project character varying(64) NOT NULL,
    location character varying(64) NOT NULL,
    model character varying(128),
    create_time_us bigint NOT NULL,
    done boolean NOT NULL,
    document bytea NOT NULL
);
CREATE TABLE schema_version (
    version integer NOT NULL
);
CREATE SEQUENCE schema_version_version_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE schema_version_version_seq OWNED BY schema_version.version;
CREATE TABLE seeded_models (
    project character varying(64) NOT NULL,
    location character varying(64) NOT NULL,
    source character varying(128) NOT NULL
);
CREATE TABLE shards (
    job_id bigint NOT NULL,
    index integer NOT NULL,
    file_number integer,
    successful bigint NOT NULL,
    failed bigint NOT NULL,
    errors text NOT NULL
);
ALTER TABLE ONLY faults ALTER COLUMN number SET DEFAULT nextval('faults_number_seq'::regclass);
ALTER TABLE ONLY job_steps ALTER COLUMN number SET DEFAULT nextval('job_steps_number_seq'::regclass);
ALTER TABLE ONLY schema_version ALTER COLUMN version SET DEFAULT nextval('schema_version_version_seq'::regclass);
INSERT INTO batch_prediction_jobs VALUES (4420189808608094111, '319519117448', 'us-central1', 'waiting', 'video-object-tracking', 1, 'video-object-tracking', 'OBJECT_TRACKING', '/models/video-object-tracking', '{"team": "video"}', '\x120777616974696e671a4870726f6a656374732f3331393531393131373434382f6c6f636174696f6e732f75732d63656e7472616c312f6d6f64656c732f766964656f2d6f626a6563742d747261636b696e6722230a056a736f6e6c121a0a1867733a2f2f6d792d6275636b65742f6f6e652e6a736f6e6c321d0a056a736f6e6c12140a1267733a2f2f6d792d6275636b65742f6f75749a010d0a047465616d1205766964656f', 2, 1796033487948093, 1796033487948093, NULL, NULL, 0, 0, -1, NULL, NULL, NULL, '\x', NULL, NULL, 0, '', 0, NULL, NULL, '[]');
INSERT INTO batch_prediction_jobs VALUES (8853026477221433311, '319519117448', 'us-central1', 'finished', 'video-object-tracking', 1, 'video-object-tracking', 'OBJECT_TRACKING', '/models/video-object-tracking', '{"team": "video"}', '\x120866696e69736865641a4870726f6a656374732f3331393531393131373434382f6c6f636174696f6e732f75732d63656e7472616c312f6d6f64656c732f766964656f2d6f626a6563742d747261636b696e6722230a056a736f6e6c121a0a1867733a2f2f6d792d6275636b65742f6f6e652e6a736f6e6c321d0a056a736f6e6c12140a1267733a2f2f6d792d6275636b65742f6f75749a010d0a047465616d1205766964656f', 4, 1796033485262621, 1796033487276568, 1796033485311065, 1796033487276568, 1, 1, 0, 'gs://my-bucket/out/prediction-video-object-tracking-2026-11-30T10:11:25.262621Z', 'cpu', NULL, '\x85000000080512800167733a2f2f6d792d6275636b65742f6f6e652e6a736f6e6c206c696e6520323a2067733a2f2f6d792d6275636b65742f6d697373696e672e6d703420646f6573206e6f742065786973743b20707574207468652066696c65206174202f646174612f6275636b6574732f6d792d6275636b65742f6d697373696e672e6d70342e', NULL, NULL, 1, '', 1, NULL, NULL, '[]');
INSERT INTO batch_prediction_jobs VALUES (8084057190622076349, '319519117448', 'us-central1', 'held', 'video-object-tracking', 1, 'video-object-tracking', 'OBJECT_TRACKING', '/models/video-object-tracking', '{"team": "video"}', '\x120468656c641a4870726f6a656374732f3331393531393131373434382f6c6f636174696f6e732f75732d63656e7472616c312f6d6f64656c732f766964656f2d6f626a6563742d747261636b696e6722230a056a736f6e6c121a0a1867733a2f2f6d792d6275636b65742f6f6e652e6a736f6e6c321d0a056a736f6e6c12140a1267733a2f2f6d792d6275636b65742f6f75749a010d0a047465616d1205766964656f', 2, 1796033487958572, 1796033487958572, NULL, NULL, 0, 0, -1, NULL, NULL, NULL, '\x', NULL, NULL, 0, 'pending=hold', 0, NULL, 9223372036854775807, '[]');
INSERT INTO batch_prediction_jobs VALUES (7180677876112195840, '319519117448', 'us-central1', 'failed', 'video-object-tracking', 1, 'video-object-tracking', 'OBJECT_TRACKING', '/models/video-object-tracking', '{"team": "video"}', '\x12066661696c65641a4870726f6a656374732f3331393531393131373434382f6c6f636174696f6e732f75732d63656e7472616c312f6d6f64656c732f766964656f2d6f626a6563742d747261636b696e6722270a056a736f6e6c121e0a1c67733a2f2f6d792d6275636b65742f6e6f7468696e672e6a736f6e6c321d0a056a736f6e6c12140a1267733a2f2f6d792d6275636b65742f6f75749a010d0a047465616d1205766964656f', 5, 1796033487536808, 1796033487571696, 1796033487563596, 1796033487571696, 0, 0, -1, NULL, NULL, '\x08051270496e707574206f626a6563742067733a2f2f6d792d6275636b65742f6e6f7468696e672e6a736f6e6c20646f6573206e6f742065786973743b20707574207468652066696c65206174202f646174612f6275636b6574732f6d792d6275636b65742f6e6f7468696e672e6a736f6e6c2e', '\x', NULL, NULL, 1, '', 1, NULL, NULL, '[]');
INSERT INTO batch_prediction_jobs VALUES (8716436731200619582, '319519117448', 'us-central1', 'running', 'video-object-tracking', 1, 'video-object-tracking', 'OBJECT_TRACKING', '/models/video-object-tracking', '{"team": "video"}', '\x120772756e6e696e671a4870726f6a656374732f3331393531393131373434382f6c6f636174696f6e732f75732d63656e7472616c312f6d6f64656c732f766964656f2d6f626a6563742d747261636b696e6722250a056a736f6e6c121c0a1a67733a2f2f6d792d6275636b65742f74687265652e6a736f6e6c321d0a056a736f6e6c12140a1267733a2f2f6d792d6275636b65742f6f75749a010d0a047465616d1205766964656f', 3, 1796033487943438, 1796033487972979, 1796033487951745, NULL, 0, 0, 3, 'gs://my-bucket/out/prediction-video-object-tracking-2026-11-30T10:11:27.943438Z', 'cpu', NULL, '\x', 'host-16292-92b7342755d22de3.8', 1796033497974236, 1, '', 1, NULL, NULL, '[]');
INSERT INTO control_notes VALUES ('pace/415445544940', 'pending=2');
INSERT INTO control_notes VALUES ('pace/319519117448', 'pending=hold');
INSERT INTO faults VALUES (1, '', '{"on": "rpc", "method": "GetModel", "code": "UNAVAILABLE", "times": 2}', 0, 0, 0);
INSERT INTO job_steps VALUES (1, 8853026477221433311, '319519117448', 1796033485294574, 'state', 'JOB_STATE_PENDING');
INSERT INTO job_steps VALUES (2, 8853026477221433311, '319519117448', 1796033485316321, 'state', 'JOB_STATE_RUNNING by host-16292-92b7342755d22de3.2');
INSERT INTO job_steps VALUES (3, 8853026477221433311, '319519117448', 1796033485344771, 'output', 'gs://my-bucket/out/prediction-video-object-tracking-2026-11-30T10:11:25.262621Z');
INSERT INTO job_steps VALUES (4, 8853026477221433311, '319519117448', 1796033485365678, 'input', '2 instances of 2 videos');
INSERT INTO job_steps VALUES (5, 8853026477221433311, '319519117448', 1796033487230849, 'provider', 'cpu');
INSERT INTO job_steps VALUES (6, 8853026477221433311, '319519117448', 1796033487245868, 'video', 'gs://my-bucket/a.mp4: 1 predicted, 0 failed, in predictions_00001.jsonl');
INSERT INTO job_steps VALUES (7, 8853026477221433311, '319519117448', 1796033487251289, 'video', 'gs://my-bucket/missing.mp4: 0 predicted, 1 failed');
INSERT INTO job_steps VALUES (8, 8853026477221433311, '319519117448', 1796033487280996, 'state', 'JOB_STATE_SUCCEEDED');
INSERT INTO job_steps VALUES (17, 7180677876112195840, '319519117448', 1796033487550056, 'state', 'JOB_STATE_PENDING');
INSERT INTO job_steps VALUES (18, 7180677876112195840, '319519117448', 1796033487565046, 'state', 'JOB_STATE_RUNNING by host-16292-92b7342755d22de3.6');
INSERT INTO job_steps VALUES (19, 7180677876112195840, '319519117448', 1796033487574246, 'state', 'JOB_STATE_FAILED');
INSERT INTO job_steps VALUES (20, 8716436731200619582, '319519117448', 1796033487944513, 'state', 'JOB_STATE_PENDING');
INSERT INTO job_steps VALUES (21, 4420189808608094111, '319519117448', 1796033487949072, 'state', 'JOB_STATE_PENDING');
INSERT INTO job_steps VALUES (22, 8084057190622076349, '319519117448', 1796033487959680, 'state', 'JOB_STATE_PENDING');
INSERT INTO job_steps VALUES (23, 8716436731200619582, '319519117448', 1796033487957151, 'state', 'JOB_STATE_RUNNING by host-16292-92b7342755d22de3.8');
INSERT INTO job_steps VALUES (24, 8716436731200619582, '319519117448', 1796033487969016, 'output', 'gs://my-bucket/out/prediction-video-object-tracking-2026-11-30T10:11:27.943438Z');
INSERT INTO job_steps VALUES (25, 8716436731200619582, '319519117448', 1796033487982697, 'input', '3 instances of 3 videos');
INSERT INTO job_steps VALUES (26, 8716436731200619582, '319519117448', 1796033488092089, 'provider', 'cpu');
INSERT INTO job_steps VALUES (27, 8716436731200619582, '319519117448', 1796033488117757, 'video', 'gs://my-bucket/a.mp4: 1 predicted, 0 failed, in predictions_00001.jsonl');
INSERT INTO model_versions VALUES ('319519117448', 'us-central1', 'video-action-recognition', 1, '["default"]', '', '{}', '/models/video-action-recognition', '5e66381ba4c95bda8a0ab3c868ebc5c18b147343b2a283577c81616ef9b208d2', '\x228e020a5867733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f696e7374616e63652f766964656f5f616374696f6e5f7265636f676e6974696f6e5f312e302e302e79616d6c125667733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f706172616d732f766964656f5f616374696f6e5f7265636f676e6974696f6e5f312e302e302e79616d6c1a5a67733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f70726564696374696f6e2f766964656f5f616374696f6e5f7265636f676e6974696f6e5f312e302e302e79616d6c5a056a736f6e6c62056a736f6e6cb202020801', 1796033485164430, 1796033485164430, 'video-action-recognition');
INSERT INTO model_versions VALUES ('319519117448', 'us-central1', 'video-object-tracking', 1, '["default"]', '', '{}', '/models/video-object-tracking', '2f0774ad1e9f087686ff09e164610f45787f4010dfd4cd6fb043c363a837ab6e', '\x2285020a5567733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f696e7374616e63652f766964656f5f6f626a6563745f747261636b696e675f312e302e302e79616d6c125367733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f706172616d732f766964656f5f6f626a6563745f747261636b696e675f312e302e302e79616d6c1a5767733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f70726564696374696f6e2f766964656f5f6f626a6563745f747261636b696e675f312e302e302e79616d6c5a056a736f6e6c62056a736f6e6cb202020801', 1796033485164430, 1796033485164430, 'video-object-tracking');
INSERT INTO model_versions VALUES ('319519117448', 'us-central1', 'mine', 1, '["first", "default"]', '', '{}', '/data/uploads/2913826631866032145', 'ee0d35fa510049282ac4f7a9f7a132ea59d3d12db67ef86708f79ccc25770ec2', '\x2285020a5567733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f696e7374616e63652f766964656f5f6f626a6563745f747261636b696e675f312e302e302e79616d6c125367733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f706172616d732f766964656f5f6f626a6563745f747261636b696e675f312e302e302e79616d6c1a5767733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f70726564696374696f6e2f766964656f5f6f626a6563745f747261636b696e675f312e302e302e79616d6c5a056a736f6e6c62056a736f6e6cd2011467733a2f2f6d792d6275636b65742f6d6f64656cb202020802', 1796033487825936, 1796033487825936, NULL);
INSERT INTO models VALUES ('319519117448', 'us-central1', 'video-action-recognition', 'video-action-recognition', 'Finds the moments of swings, jumps, kicks and throws in the clips that `emulator.factory` renders.', '{}', 1796033485164430, 1796033485164430, 1);
INSERT INTO models VALUES ('319519117448', 'us-central1', 'video-object-tracking', 'video-object-tracking', 'Finds and follows cats, dogs, cars and birds in the clips that `emulator.factory` renders.', '{}', 1796033485164430, 1796033485164430, 1);
INSERT INTO models VALUES ('319519117448', 'us-central1', 'mine', 'Mine', '', '{"team": "video"}', 1796033487825936, 1796033487825936, 1);
INSERT INTO operations VALUES (1876197650114208364, '319519117448', 'us-central1', NULL, 1796033487529028, true, '\x12680a46747970652e676f6f676c65617069732e636f6d2f676f6f676c652e636c6f75642e6169706c6174666f726d2e76312e44656c6574654f7065726174696f6e4d65746164617461121e0a1c120c08cf97b5d80610a8dd9cfc011a0c08cf97b5d80610a8dd9cfc0118012a2b0a29747970652e676f6f676c65617069732e636f6d2f676f6f676c652e70726f746f6275662e456d707479');
INSERT INTO operations VALUES (2913826631866032145, '319519117448', 'us-central1', 'mine', 1796033487813811, true, '\x126d0a4b747970652e676f6f676c65617069732e636f6d2f676f6f676c652e636c6f75642e6169706c6174666f726d2e76312e55706c6f61644d6f64656c4f7065726174696f6e4d65746164617461121e0a1c120c08cf97b5d80610a8c88284031a0c08cf97b5d80610e0e2dd8f0318012a82010a42747970652e676f6f676c65617069732e636f6d2f676f6f676c652e636c6f75642e6169706c6174666f726d2e76312e55706c6f61644d6f64656c526573706f6e7365123c0a3770726f6a656374732f3331393531393131373434382f6c6f636174696f6e732f75732d63656e7472616c312f6d6f64656c732f6d696e65120131');
INSERT INTO operations VALUES (2811091522724418289, '319519117448', 'us-central1', NULL, 1796033487894698, true, '\x12680a46747970652e676f6f676c65617069732e636f6d2f676f6f676c652e636c6f75642e6169706c6174666f726d2e76312e44656c6574654f7065726174696f6e4d65746164617461121e0a1c120c08cf97b5d80610e09fccaa031a0c08cf97b5d80610e09fccaa0318012a2b0a29747970652e676f6f676c65617069732e636f6d2f676f6f676c652e70726f746f6275662e456d707479');
INSERT INTO schema_version VALUES (2);
INSERT INTO seeded_models VALUES ('319519117448', 'us-central1', 'video-action-recognition');
INSERT INTO seeded_models VALUES ('319519117448', 'us-central1', 'video-classification');
INSERT INTO seeded_models VALUES ('319519117448', 'us-central1', 'video-object-tracking');
INSERT INTO shards VALUES (8716436731200619582, 0, 1, 1, 0, '[]');
SELECT pg_catalog.setval('faults_number_seq', 1, true);
SELECT pg_catalog.setval('job_steps_number_seq', 27, true);
SELECT pg_catalog.setval('schema_version_version_seq', 1, false);
ALTER TABLE ONLY batch_prediction_jobs
    ADD CONSTRAINT batch_prediction_jobs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY control_notes
    ADD CONSTRAINT control_notes_pkey PRIMARY KEY (name);
ALTER TABLE ONLY faults
    ADD CONSTRAINT faults_pkey PRIMARY KEY (number);
ALTER TABLE ONLY job_steps
    ADD CONSTRAINT job_steps_pkey PRIMARY KEY (number);
ALTER TABLE ONLY model_versions
    ADD CONSTRAINT model_versions_pkey PRIMARY KEY (project, location, model_id, version);
ALTER TABLE ONLY models
    ADD CONSTRAINT models_pkey PRIMARY KEY (project, location, model_id);
ALTER TABLE ONLY operations
    ADD CONSTRAINT operations_pkey PRIMARY KEY (id);
ALTER TABLE ONLY schema_version
    ADD CONSTRAINT schema_version_pkey PRIMARY KEY (version);
ALTER TABLE ONLY seeded_models
    ADD CONSTRAINT seeded_models_pkey PRIMARY KEY (project, location, source);
ALTER TABLE ONLY shards
    ADD CONSTRAINT shards_pkey PRIMARY KEY (job_id, index);
CREATE INDEX jobs_by_hold ON batch_prediction_jobs USING btree (hold_until_us);
CREATE INDEX jobs_by_parent ON batch_prediction_jobs USING btree (project, location, create_time_us, id);
CREATE INDEX jobs_by_state ON batch_prediction_jobs USING btree (state, create_time_us, id);
CREATE INDEX operations_by_parent ON operations USING btree (project, location);
CREATE INDEX steps_by_job ON job_steps USING btree (job_id, number);
ALTER TABLE ONLY model_versions
    ADD CONSTRAINT model_versions_project_location_model_id_fkey FOREIGN KEY (project, location, model_id) REFERENCES models(project, location, model_id) ON DELETE CASCADE;
ALTER TABLE ONLY shards
    ADD CONSTRAINT shards_job_id_fkey FOREIGN KEY (job_id) REFERENCES batch_prediction_jobs(id) ON DELETE CASCADE;
