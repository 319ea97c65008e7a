/**
 * OHIF extension: MONAI Label's panel. It is a plain ES module that OHIF loads at run time, see `app-config.js`.
 * @module
 */
import { Drafts } from './drafts.js';
import { Panel } from './panel.js';
import { Server } from './server.js';
import { Session } from './session.js';
import { OhifViewer } from './viewer.js';

/** @type {{viewer: OhifViewer, session: Session, panel: Panel} | null} */
let parts = null;

/** @param {{servicesManager: {services: Record<string, any>}}} ohif */
function assemble({ servicesManager }) {
  if (!parts) {
    const viewer = new OhifViewer(servicesManager.services);
    const session = new Session({ server: new Server(), viewer, drafts: new Drafts(), storage: window.localStorage });
    parts = { viewer, session, panel: new Panel(session, viewer) };
    window.addEventListener('beforeunload', (event) => session.dirty && event.preventDefault());
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

  /** @param {any} ohif */
  getPanelModule(ohif) {
    assemble(ohif);
    return [{ name: 'panel', iconName: 'tab-segmentation', iconLabel: 'MONAI Label', label: 'MONAI Label', component }];
  },

  /** @param {any} ohif */
  onModeEnter(ohif) {
    const { viewer, session } = assemble(ohif);
    session.leave();
    session.refresh();
    viewer.watch({
      opened: (image) => session.open(image),
      modified: (image) => session.modified(image),
      removed: (image) => session.removed(image),
    });
  },

  onModeExit() {
    parts.viewer.unwatch();
    parts.session.leave();
  },
};
