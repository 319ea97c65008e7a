/**
 * The panel "MONAI Label": what is shown of a session, and the buttons that act on it.
 * @module
 */
import { emptyLabel, scopeOf } from './cases.js';
import { button, dateText, download, el, millilitres, select, STYLE } from './dom.js';
import { LOGGED_OUT } from './server.js';

const SCOPES = { all: 'whole image', slice: 'this slice', range: 'slices' };

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
    session.listen(() => this.draw());
    this.draw();
  }

  build() {
    const { session } = this;
    const file = el('input', { type: 'file', accept: 'application/json', hidden: true, data: 'ml-file' });
    file.onchange = () => this.openFile(file);
    const add = el('input', { className: 'wide', placeholder: 'another organ', data: 'ml-add' });
    add.onkeydown = ({ key }) => key === 'Enter' && this.addOrgan();
    const name = { className: 'wide', value: session.name, placeholder: 'your name', data: 'ml-name', autocomplete: 'name' };
    return {
      ...{ server: el('div'), state: el('div'), message: el('div'), organs: el('div'), work: el('div'), training: el('div') },
      name: el('input', { ...name, onchange: ({ target }) => session.setName(target.value) }),
      model: el('select', { data: 'ml-model', onchange: ({ target }) => this.choose(target.value) }),
      scope: select(SCOPES, { data: 'ml-scope', onchange: () => this.draw() }),
      first: el('input', { type: 'number', min: '1', value: '1', data: 'ml-first' }),
      last: el('input', { type: 'number', min: '1', value: '1', data: 'ml-last' }),
      segment: button('Segment', () => this.segment(), { data: 'ml-segment' }),
      store: button('Store', () => session.store(), { data: 'ml-store' }),
      strategy: el('select', { data: 'ml-strategy' }),
      next: button('Next study', () => this.next(), { data: 'ml-next' }),
      add,
      file,
    };
  }

  layout() {
    const { parts } = this;
    const range = el('span', { className: 'ml-row' }, parts.first, 'to', parts.last);
    this.range = range;
    const save = button('Save to a file', () => this.saveFile(), { className: 'plain', data: 'ml-save' });
    const open = button('Open a file', () => parts.file.click(), { className: 'plain' });
    const addButton = button('Add', () => this.addOrgan(), { data: 'ml-add-button' });
    return [
      el('section', {}, parts.server, el('label', { className: 'ml-row' }, 'I am', parts.name)),
      el('section', {}, parts.state, parts.message),
      el('section', {}, el('div', { className: 'ml-row' }, parts.segment, parts.scope), range, parts.model),
      el('section', {}, el('div', { className: 'ml-row' }, parts.store, save, open, parts.file)),
      el('section', {}, el('h2', { textContent: 'Organs' }), parts.organs),
      el('section', {}, el('div', { className: 'ml-row' }, parts.add, addButton)),
      el('section', {}, el('h2', { textContent: 'Work list' }), parts.work),
      el('section', {}, el('div', { className: 'ml-row' }, parts.next, parts.strategy)),
      el('section', {}, el('h2', { textContent: 'Training' }), parts.training),
    ];
  }

  draw() {
    const { session, parts } = this;
    const { current, overview } = session;
    const idle = Boolean(current && !current.busy);
    parts.server.replaceChildren(...serverText(session));
    options(parts.model, (overview?.models || []).map(({ name, version }) => [name, `${name} ${version}`]), session.model);
    options(parts.strategy, Object.keys(overview?.strategies || {}).map((key) => [key, key]), parts.strategy.value);
    parts.state.replaceChildren(badge(current));
    parts.message.replaceChildren(...this.messages());
    parts.organs.replaceChildren(...this.organs());
    parts.work.replaceChildren(workText(overview));
    parts.training.replaceChildren(...this.training());
    this.range.hidden = parts.scope.value !== 'range';
    this.range.style.display = this.range.hidden ? 'none' : '';
    parts.segment.disabled = !idle || !session.model;
    parts.store.disabled = !idle || !current.label || !session.name;
    parts.store.title = session.name ? '' : 'Say who you are first.';
    parts.next.disabled = !session.name;
  }

  messages() {
    const { current, problem } = this.session;
    const found = [];
    if (problem) {
      const remedy = problem === LOGGED_OUT && this.action('login');
      found.push(el('div', { className: 'error', data: 'ml-problem' }, problem, remedy));
    }
    if (current?.draft) {
      const text = `There are changes of ${new Date(current.draft.saved).toLocaleString()} that were not stored.`;
      const restore = button('Restore', () => this.session.restore(current.draft), { data: 'ml-restore' });
      found.push(el('div', { className: 'badge changed', data: 'ml-draft' }, text, restore, button('Discard', () => this.session.discard())));
    }
    if (current?.busy) {
      found.push(el('div', { className: 'small', textContent: current.busy, data: 'ml-busy' }));
    }
    if (current?.message) {
      const { kind, text, actions = [] } = current.message;
      const buttons = actions.map((action) => this.action(action));
      found.push(el('div', { className: kind, data: `ml-${kind}`, role: 'status' }, text, el('div', { className: 'ml-row' }, ...buttons)));
    }
    return found;
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

  organs() {
    const { current } = this.session;
    if (!current?.label) {
      return [el('div', { className: 'small', textContent: 'Nothing is segmented yet.' })];
    }
    const { image, label, counts } = current;
    return label.segments.map(({ id, name, color = [128, 128, 128] }) => {
      const visible = el('input', { type: 'checkbox', checked: this.viewer.isVisible(image, id), title: 'show' });
      visible.onchange = () => this.viewer.setVisible(image, id, visible.checked);
      const swatch = el('span', { className: 'swatch' });
      swatch.style.background = `rgb(${color.join()})`;
      const paint = button(name, () => this.viewer.activate(image, id), { className: 'name', title: `paint ${name}` });
      const volume = el('span', { className: 'small', textContent: millilitres(counts[id], label.voxel_ml) });
      const remove = button('×', () => this.viewer.removeSegment(image, id), { className: 'plain', title: `delete ${name}` });
      const row = el('div', { className: 'organ', data: 'ml-organ' }, visible, swatch, paint, volume, remove);
      row.dataset.organ = name;
      return row;
    });
  }

  training() {
    const { session } = this;
    const { training } = session.overview || {};
    if (!training) {
      return [];
    }
    const { epoch = 0, total_epochs: total = 0, best_metric: best } = training.progress[training.model || session.model] || {};
    const dice = best === null || best === undefined ? '' : `, Dice ${best.toFixed(3)}`;
    if (!training.running) {
      const last = epoch ? el('span', { className: 'small', textContent: `last: ${epoch} of ${total} epochs${dice}` }) : '';
      const start = () => this.ask(() => session.server.train(session.model, session.name));
      return [el('div', { className: 'ml-row' }, button('Learn from corrections', start, { data: 'ml-train' }), last)];
    }
    const text = el('span', { className: 'small', textContent: `epoch ${epoch} of ${total || '…'}${dice}` });
    const stop = button('Stop', () => this.ask(() => session.server.stopTraining()), { className: 'plain' });
    return [el('progress', { max: total || 1, value: epoch }), el('div', { className: 'ml-row' }, text, stop)];
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

/** @param {import('./session.js').Session} session */
function serverText({ overview, model }) {
  if (!overview) {
    return [el('div', { className: 'small', textContent: 'Asking the server…' })];
  }
  const about = overview.models.find(({ name }) => name === model);
  const text = about ? `${about.name} ${about.version}` : 'No model is installed.';
  return [
    el('div', { textContent: text, data: 'ml-server' }),
    el('div', { className: 'small', textContent: about?.description || '' }),
    el('div', { className: 'small', textContent: overview.note }),
  ];
}

/** @param {import('./types').Case | null} current */
function badge(current) {
  const { label, origin, dirty } = current || {};
  const [kind, text] = !label
    ? ['none', current ? 'No label yet' : 'Open a study']
    : dirty
      ? ['changed', 'Changed, not stored']
      : origin.tag === 'final'
        ? ['stored', `Stored by ${origin.by}`]
        : ['automatic', 'Automatic, not reviewed'];
  const made = label ? [origin.model && `${origin.model} ${origin.model_version}`, dateText(origin.time)] : [];
  const waits = origin?.tag === 'final' && origin.pacs === 'waits' && 'the PACS does not have it yet';
  const more = [...made, waits].filter(Boolean).join(' · ');
  return el('div', { className: `badge ${kind}`, data: 'ml-badge' }, text, el('div', { className: 'small', textContent: more }));
}

/** @param {import('./types').Overview | null} overview */
function workText(overview) {
  const { total = 0, corrected = 0, reviewed = 0 } = overview?.progress || {};
  return el('div', { className: 'small', textContent: `${corrected + reviewed} of ${total} images have a stored label` });
}

/** Change a select only when its choices have changed, so that it is not closed under the hand. */
function options(element, choices, value) {
  const wanted = JSON.stringify(choices);
  if (element.dataset.choices !== wanted) {
    element.dataset.choices = wanted;
    element.replaceChildren(...choices.map(([key, text]) => el('option', { value: key, textContent: text })));
  }
  element.value = value || choices[0]?.[0] || '';
}
