/**
 * The MONAI Label server that serves this page.
 * @module
 */

export const NO_ANSWER = 'The server does not answer.';
export const LOGGED_OUT = 'You are not logged in any more.';

/** What the server did not do, in its own words. */
export class ServerError extends Error {
  /**
   * @param {string} message
   * @param {number} status of HTTP, 0 if there was no answer
   */
  constructor(message, status) {
    super(message);
    this.name = 'ServerError';
    this.status = status;
  }
}

/** Requests of the panel. The browser adds the cookie of the login page by itself. */
export class Server {
  /** @param {typeof fetch} [send] */
  constructor(send = (...request) => fetch(...request)) {
    this.send = send;
  }

  /** @returns {Promise<import('./types').Overview>} */
  overview() {
    return this.ask('GET', '/viewer/');
  }

  /**
   * @param {string} image series instance UID
   * @returns {Promise<import('./types').ImageState>}
   */
  image(image) {
    return this.ask('GET', `/viewer/images/${encodeURIComponent(image)}`);
  }

  /**
   * @param {string} image
   * @returns {Promise<import('./types').Label>}
   */
  label(image) {
    return this.ask('GET', `/viewer/images/${encodeURIComponent(image)}/label`);
  }

  /**
   * @param {string} image
   * @param {string} model
   * @param {import('./types').SliceName[] | null} slices null for the whole image
   * @param {import('./types').HowAsked} how
   * @returns {Promise<import('./types').Label>}
   */
  segment(image, model, slices, { run, signal }) {
    const query = new URLSearchParams({ model });
    return this.ask('POST', `/viewer/images/${encodeURIComponent(image)}/segment?${query}`, { slices, run }, signal);
  }

  /** @param {string} run name of a segmentation */
  stopSegmenting(run) {
    return this.ask('DELETE', `/viewer/runs/${encodeURIComponent(run)}`);
  }

  /**
   * @param {string} image
   * @param {import('./types').Submission} submission
   * @returns {Promise<import('./types').LabelOrigin>}
   */
  store(image, submission) {
    return this.ask('PUT', `/viewer/images/${encodeURIComponent(image)}/label`, submission);
  }

  /**
   * The next image to work on, which is then that person's for a while.
   * @param {string} strategy
   * @param {string} who
   * @returns {Promise<{image: string, study: string | null} | null>} null if none is left
   */
  async nextStudy(strategy, who) {
    const { id } = await this.ask('POST', `/activelearning/${encodeURIComponent(strategy)}`, { client_id: who });
    return id ? { image: id, study: (await this.image(id)).study } : null;
  }

  /** Do not offer an image to someone again. @param {string} image @param {string} who */
  skip(image, who) {
    return this.ask('POST', `/worklist/${encodeURIComponent(image)}/skip`, { client_id: who });
  }

  /** Note who approves the stored label. @param {string} image @param {string} who */
  review(image, who) {
    return this.ask('POST', `/worklist/${encodeURIComponent(image)}/review`, { client_id: who });
  }

  /** Serve a version of a model. @param {string} model @param {string} version @param {string} who */
  promote(model, version, who) {
    const query = new URLSearchParams({ version });
    return this.ask('POST', `/versions/${encodeURIComponent(model)}/promote?${query}`, { by: who });
  }

  /**
   * @param {string} model
   * @param {string} who
   */
  train(model, who) {
    return this.ask('POST', `/train/${encodeURIComponent(model)}`, { client_id: who });
  }

  /** Stop the training. */
  stopTraining() {
    return this.ask('DELETE', '/train/');
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   * @throws {ServerError}
   */
  async ask(method, path, body, signal) {
    /** @type {RequestInit & {headers: Record<string, string>}} */
    const request = { method, headers: { accept: 'application/json' }, credentials: 'same-origin', signal };
    if (body !== undefined) {
      request.headers['content-type'] = 'application/json';
      request.body = JSON.stringify(body);
    }
    let answer;
    try {
      answer = await this.send(path, request);
    } catch {
      throw new ServerError(NO_ANSWER, 0);
    }
    const text = await answer.text().catch(() => '');
    if (answer.status === 401) {
      throw new ServerError(LOGGED_OUT, 401);
    }
    if (!answer.ok) {
      throw new ServerError(detailOf(text) || `The server answers with status ${answer.status}.`, answer.status);
    }
    try {
      return JSON.parse(text);
    } catch {
      throw new ServerError('The answer of the server is cut off.', 0);
    }
  }
}

/** @param {string} text */
function detailOf(text) {
  try {
    const { detail } = JSON.parse(text);
    return typeof detail === 'string' ? detail : JSON.stringify(detail);
  } catch {
    return '';
  }
}
