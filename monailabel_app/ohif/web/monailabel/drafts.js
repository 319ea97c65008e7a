/**
 * Changes that are not stored yet, kept by the browser: a reload, a crash or a walk to the study list loses nothing.
 * @module
 */

const STORE = 'drafts';

/** Drafts by series instance UID, in IndexedDB. */
export class Drafts {
  /** @param {string} [name] of the database */
  constructor(name = 'monailabel') {
    this.name = name;
  }

  /**
   * @param {string} image
   * @returns {Promise<import('./types').Draft | undefined>}
   */
  get(image) {
    return this.run('readonly', (store) => store.get(image));
  }

  /**
   * @param {string} image
   * @param {import('./types').Draft} draft
   */
  put(image, draft) {
    return this.run('readwrite', (store) => store.put(draft, image));
  }

  /** @param {string} image */
  remove(image) {
    return this.run('readwrite', (store) => store.delete(image));
  }

  /**
   * @param {IDBTransactionMode} mode
   * @param {(store: IDBObjectStore) => IDBRequest} action
   * @returns {Promise<any>}
   */
  async run(mode, action) {
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
