/**
 * OHIF extension: MONAI Label's panel. It is a plain ES module that OHIF loads at run time, see `app-config.js`.
 * @module
 */
import { el } from './dom.js';
import { Drafts } from './drafts.js';
import { Panel } from './panel.js';
import { ResultList } from './results.js';
import { Server } from './server.js';
import { Session } from './session.js';
import { ThresholdRange } from './threshold.js';
import { MARKERS } from './style.js';
import { OhifViewer } from './viewer.js';

/**
 * What OHIF gives an extension.
 * @typedef {object} Ohif
 * @property {{services: Record<string, any>}} servicesManager
 * @property {{runCommand: (name: string, options: object, context?: string) => any}} commandsManager
 * @property {{getActiveDataSource: () => any[]}} extensionManager
 */

const REST = 30000; // ms between two looks at the server, since others work too
const MODE = /\/segmentation\/?$/; // the route of the mode that has the panel

/** @type {{viewer: OhifViewer, session: Session, panel: Panel, threshold: ThresholdRange, results: ResultList} | null} */
let parts = null;

/** @type {number | undefined} */
let looking;

/** @param {Ohif} ohif */
function assemble({ servicesManager: { services }, commandsManager, extensionManager }) {
  if (!parts) {
    const viewer = new OhifViewer(services);
    const results = new ResultList(services, () => extensionManager.getActiveDataSource()[0]);
    const given = { server: new Server(), drafts: new Drafts(), storage: window.localStorage };
    const session = new Session({ ...given, viewer, results });
    const threshold = new ThresholdRange(services, commandsManager, () => viewer.activeDisplaySet());
    parts = { viewer, session, panel: new Panel(session, viewer), threshold, results };
    document.head.append(el('style', { textContent: MARKERS }));
    window.addEventListener('beforeunload', (event) => {
      session.settling.flush();
      return session.dirty && event.preventDefault();
    });
  }
  return parts;
}

/** OHIF mounts and unmounts the panel as tabs are switched; its content stays ours. @param {HTMLElement | null} node */
function mount(node) {
  node?.replaceChildren(parts.panel.element);
}

/** One React element, written by hand so that the extension needs no React of its own. */
function component() {
  const props = { style: { height: '100%', overflow: 'auto' }, 'data-cy': 'monailabel' };
  return { $$typeof: Symbol.for('react.element'), type: 'div', key: null, ref: mount, props, _owner: null };
}

export default {
  id: 'monailabel',

  /** @param {Ohif} ohif */
  getPanelModule(ohif) {
    assemble(ohif);
    return [{ name: 'panel', iconName: 'tab-segmentation', iconLabel: 'MONAI Label', label: 'MONAI Label', component }];
  },

  /** OHIF's own commands, which ours stand in front of. @param {Ohif} ohif */
  getCommandsModule(ohif) {
    const { viewer } = assemble(ohif);
    /** @param {string} name @param {object} options */
    const run = (name, options) => ohif.commandsManager.runCommand(name, options, 'CORNERSTONE');
    const definitions = {
      interpolateLabelmap: () => viewer.interpolate(() => run('interpolateLabelmap', {})),
    };
    return { defaultContext: 'MONAILABEL', definitions };
  },

  /** Other modes show what the PACS has, and nothing of ours. @param {Ohif} ohif */
  onModeEnter(ohif) {
    if (!MODE.test(window.location.pathname)) {
      return;
    }
    const { viewer, session, threshold, results } = assemble(ohif);
    session.leave();
    session.refresh();
    viewer.watch({
      opened: (image) => {
        session.open(image);
        threshold.loaded();
      },
      modified: (image) => session.modified(image),
      removed: (image) => session.removed(image),
    });
    threshold.watch();
    results.watch();
    looking = window.setInterval(() => session.refresh(), REST);
  },

  onModeExit() {
    window.clearInterval(looking);
    parts?.threshold.unwatch();
    parts?.results.unwatch();
    parts?.viewer.unwatch();
    parts?.session.leave();
  },
};
