/**
 * Changes that are not stored yet, kept by the browser: a reload, a crash or a walk to the study list loses nothing.
 * @module
 */

const STORE = 'drafts';

/** Drafts in IndexedDB, one for each time that somebody took up a series, so that no tab writes over another's. */
export class Drafts {
  /** @param {string} [name] of the database */
  constructor(name = 'monailabel') {
    this.name = name;
  }

  /**
   * @param {string} image
   * @returns {Promise<import('./types').Draft | undefined>} the latest one
   */
  async get(image) {
    const range = IDBKeyRange.bound(keyOf(image, ''), keyOf(image, '\uffff'));
    const found = (await this.run('readonly', (store) => store.getAll(range))) || [];
    return found.sort((one, other) => one.saved - other.saved).pop();
  }

  /**
   * @param {string} image
   * @param {import('./types').Draft} draft
   */
  put(image, draft) {
    return this.run('readwrite', (store) => store.put(draft, keyOf(image, draft.visit)));
  }

  /**
   * @param {string} image
   * @param {string} visit
   */
  remove(image, visit) {
    return this.run('readwrite', (store) => store.delete(keyOf(image, visit)));
  }

  /**
   * Without room, or where the browser forbids it, nothing is kept; that stops nobody from working.
   * @param {IDBTransactionMode} mode
   * @param {(store: IDBObjectStore) => IDBRequest} action
   * @returns {Promise<any>} undefined if it has failed
   */
  async run(mode, action) {
    try {
      return await this.attempt(mode, action);
    } catch (error) {
      console.warn(`The browser keeps no changes: ${error.message}`);
      return undefined;
    }
  }

  /** @param {IDBTransactionMode} mode @param {(store: IDBObjectStore) => IDBRequest} action */
  async attempt(mode, action) {
    const database = await settled(indexedDB.open(this.name, 1), (event) =>
      /** @type {IDBOpenDBRequest} */ (event.target).result.createObjectStore(STORE)
    );
    try {
      return await settled(action(database.transaction(STORE, mode).objectStore(STORE)));
    } finally {
      database.close();
    }
  }
}

/** @param {string} image @param {string} visit */
function keyOf(image, visit) {
  return `${image} ${visit}`;
}

/**
 * @param {any} request
 * @param {(event: Event) => void} [upgrade]
 * @returns {Promise<any>}
 */
function settled(request, upgrade) {
  return new Promise((resolve, reject) => {
    if (upgrade) {
      request.onupgradeneeded = upgrade;
    }
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
