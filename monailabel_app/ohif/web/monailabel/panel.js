/**
 * The panel "MONAI Label": what is shown of a session, and the buttons that act on it.
 * @module
 */
import { emptyLabel, scopeOf } from './cases.js';
import { button, download, el, refill, select } from './dom.js';
import { badge, messages } from './messages.js';
import { organRows } from './organs.js';
import { STYLE } from './style.js';
import { STRATEGIES, training, workText } from './work.js';

const SCOPES = { all: 'whole image', slice: 'this slice', range: 'a range of slices' };
const SECOND = 1000; // ms between two looks at the clock while something goes on
const NUMBERS = 'as counted in the lower right corner of the picture, such as (15/32)';

/** The panel's element, drawn anew part by part as the session changes. */
export class Panel {
  /**
   * @param {import('./session.js').Session} session
   * @param {import('./viewer.js').OhifViewer} viewer
   */
  constructor(session, viewer) {
    this.session = session;
    this.viewer = viewer;
    this.parts = this.build();
    this.element = el('div', { className: 'ml' }, el('style', { textContent: STYLE }), ...this.layout());
    this.element.addEventListener('keydown', keepKeys);
    session.listen(() => this.draw());
    this.draw();
  }

  build() {
    const { session } = this;
    const file = el('input', { type: 'file', accept: 'application/json', hidden: true, data: 'ml-file' });
    file.onchange = () => this.openFile(file);
    const add = el('input', { className: 'wide', placeholder: 'another organ', ariaLabel: 'name of another organ', data: 'ml-add' });
    add.onkeydown = ({ key }) => key === 'Enter' && this.addOrgan();
    const name = { className: 'wide', value: session.name, placeholder: 'your name', data: 'ml-name', autocomplete: 'name' };
    const number = (data, ariaLabel) => el('input', { type: 'number', min: '1', value: '1', title: NUMBERS, ariaLabel, data });
    return {
      ...{ note: el('div', { className: 'research', data: 'ml-note' }), title: el('div'), state: el('div'), message: el('section') },
      ...{ about: el('div', { className: 'small', data: 'ml-server' }), licence: el('div', { className: 'small', data: 'ml-licence' }) },
      ...{ hint: el('div', { className: 'small', data: 'ml-hint' }), organs: el('div'), work: el('div'), training: el('div') },
      name: el('input', { ...name, onchange: ({ target }) => session.setName(target.value) }),
      model: el('select', { data: 'ml-model', ariaLabel: 'model', onchange: ({ target }) => this.choose(target.value) }),
      scope: select(SCOPES, { data: 'ml-scope', ariaLabel: 'what to segment', onchange: () => this.draw() }),
      first: number('ml-first', 'first slice'),
      last: number('ml-last', 'last slice'),
      segment: button('Segment', () => this.segment(), { data: 'ml-segment' }),
      store: button('Store', () => session.store(), { data: 'ml-store' }),
      review: button('Approve', () => session.review(), { data: 'ml-review', title: 'note that you have reviewed the stored label' }),
      strategy: el('select', { data: 'ml-strategy', ariaLabel: 'which study comes next' }),
      next: button('Next study', () => this.next(), { data: 'ml-next' }),
      skip: button('Skip', () => this.skip(), { className: 'plain', data: 'ml-skip', title: 'open the next study, and never offer me this one again' }),
      add,
      file,
    };
  }

  layout() {
    const { parts } = this;
    this.range = el('span', { className: 'ml-row' }, 'slices', parts.first, 'to', parts.last);
    const save = button('Save to a file', () => this.saveFile(), { className: 'plain', data: 'ml-save' });
    const open = button('Open a file', () => parts.file.click(), { className: 'plain' });
    const addButton = button('Add', () => this.addOrgan(), { data: 'ml-add-button' });
    const about = el('details', { className: 'small' }, el('summary', {}, 'About this model'), parts.about);
    const row = (...children) => el('div', { className: 'ml-row' }, ...children);
    return [
      el('section', {}, parts.note, el('label', { className: 'ml-row' }, 'I am', parts.name)),
      el('section', {}, parts.title, parts.state),
      el('section', {}, row(parts.segment, parts.scope), this.range, el('label', { className: 'ml-row' }, 'with', parts.model), parts.licence, about),
      el('section', {}, row(parts.store, parts.review, save, open, parts.file), parts.hint),
      parts.message,
      el('section', {}, el('h2', { textContent: 'Organs' }), parts.organs),
      el('section', {}, row(parts.add, addButton)),
      el('section', {}, el('h2', { textContent: 'Work list' }), parts.work),
      el('section', {}, row(parts.next, parts.skip), el('label', { className: 'ml-row small' }, 'chosen', parts.strategy)),
      el('section', {}, el('h2', { textContent: 'Training' }), parts.training),
    ];
  }

  draw() {
    const { session, parts } = this;
    const { current, overview } = session;
    const idle = Boolean(current && !current.busy);
    const model = overview?.models.find(({ name }) => name === session.model);
    refill(parts.note, [overview?.note || 'Asking the server…']);
    refill(parts.about, [model ? model.description : overview && 'No model is installed.']);
    refill(parts.licence, [model && `Licence of the model: ${model.licence}`]);
    options(parts.model, (overview?.models || []).map(({ name, version }) => [name, `${name} ${version}`]), session.model);
    const strategies = Object.entries(overview?.strategies || {});
    options(parts.strategy, strategies.map(([key, title]) => [key, STRATEGIES[key] || key, title]), parts.strategy.value);
    refill(parts.title, this.title());
    refill(parts.state, [badge(current)]);
    refill(parts.message, messages(session, (action) => this.action(action)));
    refill(parts.organs, organRows(current, this.viewer, () => this.draw()));
    refill(parts.work, [workText(overview)]);
    refill(parts.training, training(session, (action) => this.ask(action)));
    this.count();
    this.range.style.display = parts.scope.value === 'range' ? '' : 'none';
    this.enable(idle);
    clearTimeout(this.clock);
    this.clock = idle || !current ? undefined : setTimeout(() => this.draw(), SECOND);
  }

  /** Propose all slices of a series that is looked at for the first time. */
  count() {
    const { parts, session, viewer } = this;
    const image = session.current?.image;
    if (!image || image === this.counted) {
      return;
    }
    try {
      const count = String(viewer.slices(image).length);
      this.counted = image;
      Object.assign(parts.first, { max: count, value: '1' });
      Object.assign(parts.last, { max: count, value: count });
    } catch {
      // the viewer has not taken it up yet
    }
  }

  /** What can be done now, and why something cannot. @param {boolean} idle */
  enable(idle) {
    const { session, parts } = this;
    const { current, name } = session;
    const final = current?.label && current.origin.tag === 'final' && !current.dirty;
    parts.segment.disabled = !idle || !session.model;
    parts.store.disabled = !idle || !current.label || !name;
    parts.review.style.display = final && !current.reviewed ? '' : 'none';
    parts.review.disabled = !idle || !name;
    parts.next.disabled = !name;
    parts.skip.disabled = !name || !current;
    refill(parts.hint, [!name && 'To store, or to get the next study, say above who you are.']);
  }

  /** Whose image it is, in letters that nobody overlooks: OHIF has the name folded away. */
  title() {
    const { current } = this.session;
    if (!current) {
      return [];
    }
    try {
      const { patient, series } = this.viewer.titleOf(current.image);
      return [el('div', { className: 'title', data: 'ml-patient' }, patient), el('div', { className: 'small', data: 'ml-series' }, series)];
    } catch {
      return []; // the viewer has not taken it up yet
    }
  }

  /** @param {string} action */
  action(action) {
    const { session } = this;
    /** @type {Record<string, [string, () => unknown]>} */
    const known = {
      again: ['Try again', () => session.store()],
      replace: ['Replace it with mine', () => session.store({ replace: true })],
      load: ['Load the stored one', () => session.reload()],
      save: ['Save to a file', () => this.saveFile()],
      bring: ['Bring it back', () => session.bringBack()],
      login: ['Log in', () => window.open('/login', '_blank')],
    };
    const [text, act] = known[action];
    return button(text, act, { data: `ml-action-${action}` });
  }

  /** Do something, say why not, and look at the server again. @param {() => Promise<any>} action */
  async ask(action) {
    try {
      await action();
      await this.session.refresh();
    } catch (error) {
      this.session.problem = error.message;
      this.draw();
    }
  }

  choose(model) {
    this.session.model = model;
    this.draw();
  }

  segment() {
    const { session, parts, viewer } = this;
    const ends = [parts.first, parts.last].map(({ value }) => Number(value));
    try {
      session.segment(scopeOf(viewer, session.current.image, parts.scope.value, ends[0], ends[1]));
    } catch (error) {
      session.current.message = { kind: 'error', text: error.message };
      this.draw();
    }
  }

  addOrgan() {
    const { session, viewer, parts } = this;
    const { current } = session;
    const name = parts.add.value.trim();
    if (!current || !name) {
      return;
    }
    parts.add.value = '';
    const known = session.overview?.models.flatMap(({ segments }) => segments) || [];
    const color = known.find((segment) => segment.name === name)?.color;
    if (current.label) {
      viewer.addSegment(current.image, name, color);
      return;
    }
    const begin = () => session.show(current, emptyLabel(current.image, viewer, { id: 1, name, color }), false);
    session.attempt(current, 'Loading…', begin);
  }

  /** Leave this study to others, and take the next one. */
  skip() {
    return this.ask(async () => {
      await this.session.server.skip(this.session.current.image, this.session.name);
      await this.next();
    });
  }

  next() {
    return this.ask(async () => {
      const found = await this.session.server.nextStudy(this.parts.strategy.value, this.session.name);
      if (!found) {
        throw new Error('No study is left for you.');
      }
      const query = new URLSearchParams({ StudyInstanceUIDs: found.study, initialSeriesInstanceUID: found.image });
      window.location.assign(`/ohif/segmentation?${query}`);
    });
  }

  saveFile() {
    const { session } = this;
    if (session.current?.label) {
      session.look(session.current);
      download(JSON.stringify(session.draft()), 'application/json', `label-${session.current.image}.json`);
    }
  }

  /** @param {HTMLInputElement} input */
  async openFile(input) {
    const [file] = input.files;
    input.value = '';
    await this.ask(async () => {
      const draft = JSON.parse(await file.text().catch(() => ''));
      if (!draft?.label?.slices) {
        throw new Error(`${file.name} is no label that this panel has saved.`);
      }
      await this.session.restore(draft);
    });
  }
}

/** Enter and space press the button that has the focus; OHIF would reset its view. @param {KeyboardEvent} event */
function keepKeys(event) {
  if (['Enter', ' '].includes(event.key) && /** @type {Element} */ (event.target).matches('button, summary, input, select')) {
    event.stopPropagation();
  }
}

/** Change a select only when its choices have changed, so that it is not closed under the hand. */
function options(element, choices, value) {
  const wanted = JSON.stringify(choices);
  if (element.dataset.choices !== wanted) {
    element.dataset.choices = wanted;
    element.replaceChildren(...choices.map(([key, text, title = '']) => el('option', { value: key, textContent: text, title })));
  }
  element.value = value || choices[0]?.[0] || '';
}
