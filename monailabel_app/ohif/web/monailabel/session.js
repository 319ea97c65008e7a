/**
 * What happens to labels while a person works: loaded, segmented, changed, stored. Knows the server and a viewer, and
 * nothing of how either is made or of how the panel looks.
 * @module
 */
import { draftOf, failure, hashAsGiven, lookAt, newCase, originOf, stillWaits, storedMessage, submissionOf } from './cases.js';
import { segment } from './segmenting.js';
import { Settling } from './settling.js';

const NAME = 'monailabel.name';
const SETTLE = 250; // ms without a change until volumes are counted and the draft is kept
const POLL = 5000; // ms between two looks at the server while something is awaited

/** @typedef {import('./types').Case} Case */

/** The state of the panel; tells its listeners when something has changed. */
export class Session {
  /** @param {import('./types').SessionParts} parts */
  constructor({ server, viewer, drafts, results, storage, now = Date.now }) {
    this.server = server;
    this.viewer = viewer;
    this.drafts = drafts;
    this.results = results;
    this.storage = storage;
    this.now = now;
    /** @type {Map<string, Case>} */
    this.cases = new Map();
    /** @type {Case | null} */
    this.current = null;
    /** @type {import('./types').Overview | null} */
    this.overview = null;
    this.problem = '';
    this.model = '';
    this.name = storage.getItem(NAME) || '';
    this.listeners = new Set();
    this.settling = new Settling((image) => this.settle(this.cases.get(image)), SETTLE);
    this.showing = false; // changes come from us and not from the person
  }

  /** @param {() => void} listener */
  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  changed() {
    this.listeners.forEach((listener) => listener());
  }

  /** @param {string} name */
  setName(name) {
    this.name = name.trim();
    this.storage.setItem(NAME, this.name);
    this.changed();
  }

  /** Ask the server for models and progress; again while it trains, a label waits, it knows no image or is silent. */
  async refresh() {
    clearTimeout(this.poll);
    let again = false;
    try {
      this.overview = await this.server.overview();
      this.problem = '';
      if (!this.overview.models.some(({ name }) => name === this.model)) {
        this.model = this.overview.models[0]?.name || '';
      }
      const waits = await stillWaits(this.current, this.server, this.results);
      again = this.overview.training.running || waits;
    } catch (error) {
      this.problem = error.message;
    }
    if (again || this.problem || this.overview?.progress?.total === 0) { // it looks for images beside its answers
      this.poll = setTimeout(() => this.refresh(), POLL);
    }
    this.changed();
  }

  /**
   * Take up a series: show its stored label, or the automatic one.
   * @param {string} image
   */
  async open(image) {
    if (this.current?.image === image) {
      return;
    }
    const known = this.cases.get(image);
    const opened = known || newCase(image);
    this.cases.set(image, opened);
    this.current = opened;
    if (!known) {
      await this.attempt(opened, 'Loading…', () => this.load(opened));
    }
    this.changed();
  }

  /** @param {Case} opened */
  async load(opened) {
    const { label: origin, reviewed_by: reviewed = null } = await this.server.image(opened.image);
    opened.reviewed = reviewed;
    opened.base = origin?.tag === 'final' ? origin.digest : null;
    if (origin) {
      const label = await this.server.label(opened.image);
      opened.base = label.tag === 'final' ? label.digest : null;
      await this.show(opened, label, true);
    }
    opened.draft = (await this.drafts.get(opened.image)) || null;
    opened.message = null;
  }

  /**
   * Segment the series, or some of its slices; what the person made of the others stays.
   * @param {import('./types').SliceName[] | null} slices
   */
  async segment(slices) {
    const opened = this.current;
    await this.attempt(opened, 'Segmenting…', () => segment(this, opened, slices));
  }

  /**
   * Send what is shown to the server.
   * @param {{replace?: boolean}} [options] replace what somebody else has stored in the meantime
   */
  async store({ replace = false } = {}) {
    const opened = this.current;
    await this.attempt(opened, 'Storing…', async () => {
      this.look(opened);
      const hash = opened.hash;
      const submission = submissionOf(opened, this.name);
      if (replace) {
        delete submission.base;
      }
      const origin = await this.server.store(opened.image, submission);
      Object.assign(opened, { origin, base: origin.digest, stored: hash, reviewed: null });
      this.look(opened);
      this.keep(opened);
      opened.message = storedMessage(origin);
      this.results.renew(opened.image);
    });
    await this.refresh();
  }

  /** Approve the stored label. */
  async review() {
    const opened = this.current;
    await this.attempt(opened, 'Approving…', async () => {
      await this.server.review(opened.image, this.name);
      opened.reviewed = this.name;
    });
    await this.refresh();
  }

  /** Take the changes of another time, or of a file. */
  async restore(draft) {
    const opened = this.current;
    await this.attempt(opened, 'Restoring…', async () => {
      if (draft.label.image !== opened.image) {
        throw new Error('These changes belong to another series.');
      }
      opened.base = draft.base;
      await this.show(opened, { ...draft.label, ...draft.origin }, false);
      await this.keep(opened);
      if (draft === opened.draft) {
        await this.discard();
      }
      opened.message = null;
    });
  }

  /** Forget the changes of another time. */
  async discard() {
    const { image, draft } = this.current;
    this.current.draft = null;
    await this.drafts.remove(image, draft.visit);
    this.changed();
  }

  /** Load the stored label in place of what is shown. */
  async reload() {
    const opened = this.current;
    await this.attempt(opened, 'Loading…', async () => {
      await this.drafts.remove(opened.image, opened.visit);
      await this.load(opened);
    });
  }

  /** Show again what was removed from the viewer. */
  async bringBack() {
    const { current } = this;
    await this.attempt(current, 'Loading…', async () => {
      await this.show(current, current.label, false);
      current.message = null;
    });
  }

  /** @returns {import('./types').Draft} what is shown */
  draft(opened = this.current) {
    return draftOf(opened, this.now());
  }

  /** The viewer says that a label map has changed. @param {string} image */
  modified(image) {
    if (this.cases.get(image)?.label && !this.showing) {
      this.settling.touch(image);
    }
  }

  /** The viewer says that a label map was removed. @param {string} image */
  removed(image) {
    const opened = this.cases.get(image);
    if (opened?.label && !this.showing) {
      this.settling.cancel(image);
      opened.message = { kind: 'error', text: 'The segmentation was removed from the viewer.', actions: ['bring'] };
      this.changed();
    }
  }

  /** @param {Case} opened */
  async settle(opened) {
    const label = this.look(opened);
    this.changed();
    await (label && this.keep(opened));
  }

  /** Keep what is not stored, and nothing else. @param {Case} opened */
  keep(opened) {
    const { image, visit, dirty } = opened;
    return dirty ? this.drafts.put(image, this.draft(opened)) : this.drafts.remove(image, visit);
  }

  /**
   * @param {Case} opened
   * @param {import('./types').Label} label
   * @param {boolean} known whether the server has it
   */
  async show(opened, label, known) {
    await this.quietly(() => this.viewer.show(opened.image, label));
    opened.origin = originOf(label);
    opened.label = label;
    opened.stored = known ? hashAsGiven(opened, label, this.viewer) : null;
    this.look(opened);
    opened.found = known ? [...opened.counts] : [];
    if (known && opened.dirty) {
      this.settling.touch(opened.image); // drawn while the viewer was busy with showing it
    }
  }

  /** Change what is shown, which is no change of the person's. @param {() => Promise<void> | void} change */
  async quietly(change) {
    this.showing = true;
    try {
      await change();
    } finally {
      this.showing = false;
    }
  }

  /** Read what is shown. @param {Case} opened */
  look(opened) {
    return lookAt(opened, this.viewer);
  }

  /**
   * Do something with a case, and tell what came of it; what is shown stays when it fails.
   * @param {Case} opened
   * @param {string} busy
   * @param {() => Promise<void>} action
   */
  async attempt(opened, busy, action) {
    if (opened.busy) {
      return;
    }
    Object.assign(opened, { busy, since: this.now(), message: null });
    this.changed();
    try {
      await action();
    } catch (error) {
      opened.message = failure(busy, error);
    } finally {
      opened.busy = '';
      this.changed();
    }
  }

  /** A mode ends, and the viewer forgets all labels; what is not stored stays as drafts. */
  leave() {
    this.settling.flush();
    const unstored = [...this.cases.values()].filter(({ dirty, label }) => dirty && label);
    unstored.forEach((opened) => this.keep(opened));
    this.cases.clear();
    this.current = null;
    clearTimeout(this.poll);
  }

  /** Whether something would be lost if the page were closed now. */
  get dirty() {
    return [...this.cases.values()].some(({ dirty, label }) => dirty && label);
  }
}
