/**
 * Medplum's in-memory repository, made to answer like that of its server, which keeps a database instead.
 *
 * What differs follows packages/server/src/fhir/repo.ts of https://github.com/medplum/medplum. Nothing in here waits for
 * input or output, so that a request is carried out before the next one begins: transactions are isolated.
 */
const {
  OperationOutcomeError,
  Operator,
  badRequest,
  deepClone,
  deepEquals,
  evalFhirPath,
  getSearchParameter,
  gone,
  isUUID,
  notFound,
  preconditionFailed,
  splitSearchOnComma,
  validateResource,
} = require('@medplum/core');
const { FhirRepository, MemoryRepository } = require('@medplum/fhir-router');

const DEFAULT_COUNT = 20;
const MAX_VERSIONS = 100;

class Repository extends MemoryRepository {
  async createResource(resource, options) {
    const id = (options?.assignedId && resource.id) || this.generateId();
    return this.#store({ ...resource, id });
  }

  conditionalCreate(resource, search, options) {
    return FhirRepository.prototype.conditionalCreate.call(this, resource, search, options);
  }

  async updateResource(resource, options) {
    const { resourceType, id } = resource;
    if (!isUUID(id ?? '')) {
      throw new OperationOutcomeError(badRequest('Invalid id'));
    }
    const existing = this.resources.get(resourceType)?.get(id);
    if (!existing && !this.#wasDeleted(resourceType, id)) {
      throw new OperationOutcomeError(notFound); // a client cannot choose the id of a new resource
    }
    const version = existing?.meta.versionId;
    if (existing && options?.ifMatch && version !== options.ifMatch) {
      throw new OperationOutcomeError(preconditionFailed);
    }
    const asStored = { ...resource, meta: { ...resource.meta, versionId: version } };
    return deepEquals(existing, asStored) ? deepClone(existing) : this.#store(resource);
  }

  async readResource(resourceType, id) {
    if (this.#wasDeleted(resourceType, id)) {
      throw new OperationOutcomeError(gone);
    }
    return super.readResource(resourceType, id);
  }

  async readHistory(resourceType, id, { limit } = {}) {
    const versions = this.#history(resourceType, id);
    if (!versions.length) {
      throw new OperationOutcomeError(notFound);
    }
    const newestFirst = versions.toReversed().slice(0, limit ?? MAX_VERSIONS);
    const entry = newestFirst.map((version) => ({
      request: { method: 'GET', url: `${resourceType}/${id}/_history/${version.meta.versionId}` },
      response: { status: version.meta.deleted ? '410' : '200' },
      resource: version.meta.deleted ? undefined : deepClone(version),
    }));
    return { resourceType: 'Bundle', type: 'history', entry };
  }

  async deleteResource(resourceType, id, options) {
    if (!this.#wasDeleted(resourceType, id)) {
      await super.deleteResource(resourceType, id, options);
      this.#history(resourceType, id).push({ meta: { versionId: this.generateId(), deleted: true } });
    }
  }

  async search(request) {
    const filters = request.filters ?? [];
    const unknown = filters.find(({ code }) => !/[.:]/.test(code) && !getSearchParameter(request.resourceType, code));
    if (unknown) {
      throw new OperationOutcomeError(badRequest(`Unknown search parameter: ${unknown.code}`));
    }
    const count = request.count ?? DEFAULT_COUNT;
    const byReference = filters.filter(({ operator }) => operator === Operator.IDENTIFIER);
    if (!byReference.length) {
      return super.search.call(this.#candidates(request), { ...request, count });
    }
    const others = filters.filter((filter) => !byReference.includes(filter));
    const found = await super.search({ ...request, filters: others, count: undefined });
    const entry = found.entry?.filter(({ resource }) => byReference.every((filter) => refersTo(resource, filter)));
    return { ...found, entry: entry?.slice(0, count), total: entry?.length ?? 0 };
  }

  /** This repository with the resources that a search by identifier can find at all: FHIRPath looks at them one by one. */
  #candidates({ resourceType, filters = [] }) {
    const wanted = filters
      .filter(({ code, operator }) => code === 'identifier' && operator === Operator.EQUALS)
      .map(({ value }) => splitSearchOnComma(value).map((token) => token.split('|').slice(0, 2).at(-1).toLowerCase()));
    if (!wanted.length) {
      return this;
    }
    const found = Array.from(this.resources.get(resourceType) ?? []).filter(([, { identifier, masterIdentifier }]) => {
      const values = [identifier, masterIdentifier].flat().map((each) => each?.value?.toLowerCase());
      return wanted.every((tokens) => tokens.some((token) => !token || values.includes(token)));
    });
    return Object.create(this, { resources: { value: new Map([...this.resources, [resourceType, new Map(found)]]) } });
  }

  async withTransaction(callback) {
    const { resources, history } = this;
    this.resources = copy(resources, (resource) => resource);
    this.history = copy(history, (versions) => [...versions]);
    try {
      return await callback(this);
    } catch (error) {
      Object.assign(this, { resources, history });
      throw error;
    }
  }

  #store(resource) {
    validateResource(resource);
    return super.createResource(resource, undefined, true);
  }

  #history(resourceType, id) {
    return this.history.get(resourceType)?.get(id) ?? [];
  }

  #wasDeleted(resourceType, id) {
    return Boolean(this.#history(resourceType, id).at(-1)?.meta.deleted);
  }
}

/** Whether a reference in a resource has one of the identifiers that are asked for (modifier :identifier). */
function refersTo(resource, { code, value }) {
  const { expression } = getSearchParameter(resource.resourceType, code);
  const wanted = splitSearchOnComma(value);
  return evalFhirPath(expression, resource).some(
    ({ identifier }) => identifier && wanted.includes(`${identifier.system ?? ''}|${identifier.value}`)
  );
}

/** A copy of a map of maps. */
function copy(outer, copied) {
  const inner = (map) => new Map(Array.from(map, ([id, value]) => [id, copied(value)]));
  return new Map(Array.from(outer, ([resourceType, map]) => [resourceType, inner(map)]));
}

module.exports = { Repository };
