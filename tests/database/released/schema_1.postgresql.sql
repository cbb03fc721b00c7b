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
    attempts integer NOT NULL
);
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
ALTER TABLE ONLY schema_version ALTER COLUMN version SET DEFAULT nextval('schema_version_version_seq'::regclass);
INSERT INTO batch_prediction_jobs VALUES (2034158752616390380, '319519117448', 'us-central1', 'finished', 'video-object-tracking', 1, 'video-object-tracking', 'OBJECT_TRACKING', '/models/video-object-tracking', '{"team": "video"}', '\x120866696e69736865641a4870726f6a656374732f3331393531393131373434382f6c6f636174696f6e732f75732d63656e7472616c312f6d6f64656c732f766964656f2d6f626a6563742d747261636b696e6722230a056a736f6e6c121a0a1867733a2f2f6d792d6275636b65742f6f6e652e6a736f6e6c321d0a056a736f6e6c12140a1267733a2f2f6d792d6275636b65742f6f75749a010d0a047465616d1205766964656f', 4, 1796033463365735, 1796033464825877, 1796033463374014, 1796033464825877, 1, 1, 0, 'gs://my-bucket/out/prediction-video-object-tracking-2026-11-30T10:11:03.365735Z', 'cpu', NULL, '\x85000000080512800167733a2f2f6d792d6275636b65742f6f6e652e6a736f6e6c206c696e6520323a2067733a2f2f6d792d6275636b65742f6d697373696e672e6d703420646f6573206e6f742065786973743b20707574207468652066696c65206174202f646174612f6275636b6574732f6d792d6275636b65742f6d697373696e672e6d70342e', NULL, NULL, 1);
INSERT INTO batch_prediction_jobs VALUES (1996075782434762105, '319519117448', 'us-central1', 'failed', 'video-object-tracking', 1, 'video-object-tracking', 'OBJECT_TRACKING', '/models/video-object-tracking', '{"team": "video"}', '\x12066661696c65641a4870726f6a656374732f3331393531393131373434382f6c6f636174696f6e732f75732d63656e7472616c312f6d6f64656c732f766964656f2d6f626a6563742d747261636b696e6722270a056a736f6e6c121e0a1c67733a2f2f6d792d6275636b65742f6e6f7468696e672e6a736f6e6c321d0a056a736f6e6c12140a1267733a2f2f6d792d6275636b65742f6f75749a010d0a047465616d1205766964656f', 5, 1796033465135219, 1796033465150506, 1796033465136710, 1796033465150506, 0, 0, -1, NULL, NULL, '\x08051270496e707574206f626a6563742067733a2f2f6d792d6275636b65742f6e6f7468696e672e6a736f6e6c20646f6573206e6f742065786973743b20707574207468652066696c65206174202f646174612f6275636b6574732f6d792d6275636b65742f6e6f7468696e672e6a736f6e6c2e', '\x', NULL, NULL, 1);
INSERT INTO batch_prediction_jobs VALUES (5581760612144390664, '319519117448', 'us-central1', 'waiting', 'video-object-tracking', 1, 'video-object-tracking', 'OBJECT_TRACKING', '/models/video-object-tracking', '{"team": "video"}', '\x120777616974696e671a4870726f6a656374732f3331393531393131373434382f6c6f636174696f6e732f75732d63656e7472616c312f6d6f64656c732f766964656f2d6f626a6563742d747261636b696e6722230a056a736f6e6c121a0a1867733a2f2f6d792d6275636b65742f6f6e652e6a736f6e6c321d0a056a736f6e6c12140a1267733a2f2f6d792d6275636b65742f6f75749a010d0a047465616d1205766964656f', 2, 1796033465430030, 1796033465430030, NULL, NULL, 0, 0, -1, NULL, NULL, NULL, '\x', NULL, NULL, 0);
INSERT INTO batch_prediction_jobs VALUES (7801413369553800335, '319519117448', 'us-central1', 'running', 'video-object-tracking', 1, 'video-object-tracking', 'OBJECT_TRACKING', '/models/video-object-tracking', '{"team": "video"}', '\x120772756e6e696e671a4870726f6a656374732f3331393531393131373434382f6c6f636174696f6e732f75732d63656e7472616c312f6d6f64656c732f766964656f2d6f626a6563742d747261636b696e6722250a056a736f6e6c121c0a1a67733a2f2f6d792d6275636b65742f74687265652e6a736f6e6c321d0a056a736f6e6c12140a1267733a2f2f6d792d6275636b65742f6f75749a010d0a047465616d1205766964656f', 3, 1796033465423225, 1796033465443490, 1796033465425147, NULL, 0, 0, 3, 'gs://my-bucket/out/prediction-video-object-tracking-2026-11-30T10:11:05.423225Z', 'cpu', NULL, '\x', 'host-15845-9929db49d439c0e0', 1796033475437931, 1);
INSERT INTO model_versions VALUES ('319519117448', 'us-central1', 'video-action-recognition', 1, '["default"]', '', '{}', '/models/video-action-recognition', 'bbf16905335f93e8d966c2c743e842b2b6317912de750aee748e876f627f66bf', '\x228e020a5867733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f696e7374616e63652f766964656f5f616374696f6e5f7265636f676e6974696f6e5f312e302e302e79616d6c125667733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f706172616d732f766964656f5f616374696f6e5f7265636f676e6974696f6e5f312e302e302e79616d6c1a5a67733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f70726564696374696f6e2f766964656f5f616374696f6e5f7265636f676e6974696f6e5f312e302e302e79616d6c5a056a736f6e6c62056a736f6e6cb202020801', 1796033463294637, 1796033463294637, 'video-action-recognition');
INSERT INTO model_versions VALUES ('319519117448', 'us-central1', 'video-object-tracking', 1, '["default"]', '', '{}', '/models/video-object-tracking', '2b75246b5a562c6fb5e672dc1e2e34f318a9f2fb7c23b50bbc97a33419c009ba', '\x2285020a5567733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f696e7374616e63652f766964656f5f6f626a6563745f747261636b696e675f312e302e302e79616d6c125367733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f706172616d732f766964656f5f6f626a6563745f747261636b696e675f312e302e302e79616d6c1a5767733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f70726564696374696f6e2f766964656f5f6f626a6563745f747261636b696e675f312e302e302e79616d6c5a056a736f6e6c62056a736f6e6cb202020801', 1796033463294637, 1796033463294637, 'video-object-tracking');
INSERT INTO model_versions VALUES ('319519117448', 'us-central1', 'mine', 1, '["first", "default"]', '', '{}', '/data/uploads/7650016024323375046', 'c29cb26222bcdc20a8bcf2b3ea8b507970ad7d6672030344d1e3afb4a88e6642', '\x2285020a5567733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f696e7374616e63652f766964656f5f6f626a6563745f747261636b696e675f312e302e302e79616d6c125367733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f706172616d732f766964656f5f6f626a6563745f747261636b696e675f312e302e302e79616d6c1a5767733a2f2f676f6f676c652d636c6f75642d6169706c6174666f726d2f736368656d612f707265646963742f70726564696374696f6e2f766964656f5f6f626a6563745f747261636b696e675f312e302e302e79616d6c5a056a736f6e6c62056a736f6e6cd2011467733a2f2f6d792d6275636b65742f6d6f64656cb202020802', 1796033465374215, 1796033465374215, NULL);
INSERT INTO models VALUES ('319519117448', 'us-central1', 'video-action-recognition', 'video-action-recognition', 'Finds the moments of swings, jumps, kicks and throws in the clips that `emulator.factory` renders.', '{}', 1796033463294637, 1796033463294637, 1);
INSERT INTO models VALUES ('319519117448', 'us-central1', 'video-object-tracking', 'video-object-tracking', 'Finds and follows cats, dogs, cars and birds in the clips that `emulator.factory` renders.', '{}', 1796033463294637, 1796033463294637, 1);
INSERT INTO models VALUES ('319519117448', 'us-central1', 'mine', 'Mine', '', '{"team": "video"}', 1796033465374215, 1796033465374215, 1);
INSERT INTO operations VALUES (6888862408622108319, '319519117448', 'us-central1', NULL, 1796033465128039, true, '\x12660a46747970652e676f6f676c65617069732e636f6d2f676f6f676c652e636c6f75642e6169706c6174666f726d2e76312e44656c6574654f7065726174696f6e4d65746164617461121c0a1a120b08b997b5d8061090a0ff3c1a0b08b997b5d8061090a0ff3c18012a2b0a29747970652e676f6f676c65617069732e636f6d2f676f6f676c652e70726f746f6275662e456d707479');
INSERT INTO operations VALUES (7650016024323375046, '319519117448', 'us-central1', 'mine', 1796033465352942, true, '\x126d0a4b747970652e676f6f676c65617069732e636f6d2f676f6f676c652e636c6f75642e6169706c6174666f726d2e76312e55706c6f61644d6f64656c4f7065726174696f6e4d65746164617461121e0a1c120c08b997b5d80610f8e3a1a8011a0c08b997b5d80610f09cdeb30118012a82010a42747970652e676f6f676c65617069732e636f6d2f676f6f676c652e636c6f75642e6169706c6174666f726d2e76312e55706c6f61644d6f64656c526573706f6e7365123c0a3770726f6a656374732f3331393531393131373434382f6c6f636174696f6e732f75732d63656e7472616c312f6d6f64656c732f6d696e65120131');
INSERT INTO schema_version VALUES (1);
INSERT INTO seeded_models VALUES ('319519117448', 'us-central1', 'video-action-recognition');
INSERT INTO seeded_models VALUES ('319519117448', 'us-central1', 'video-object-tracking');
INSERT INTO shards VALUES (7801413369553800335, 0, 1, 1, 0, '[]');
SELECT pg_catalog.setval('schema_version_version_seq', 1, false);
ALTER TABLE ONLY batch_prediction_jobs
    ADD CONSTRAINT batch_prediction_jobs_pkey PRIMARY KEY (id);
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
CREATE INDEX jobs_by_parent ON batch_prediction_jobs USING btree (project, location, create_time_us, id);
CREATE INDEX jobs_by_state ON batch_prediction_jobs USING btree (state, create_time_us, id);
CREATE INDEX operations_by_parent ON operations USING btree (project, location);
ALTER TABLE ONLY model_versions
    ADD CONSTRAINT model_versions_project_location_model_id_fkey FOREIGN KEY (project, location, model_id) REFERENCES models(project, location, model_id) ON DELETE CASCADE;
ALTER TABLE ONLY shards
    ADD CONSTRAINT shards_job_id_fkey FOREIGN KEY (job_id) REFERENCES batch_prediction_jobs(id) ON DELETE CASCADE;
