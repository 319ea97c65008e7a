import { encodeRuns } from '../../monailabel_app/ohif/web/monailabel/runs.js';
import { OhifViewer } from '../../monailabel_app/ohif/web/monailabel/viewer.js';

const COLUMNS = 4;

/** A label of the series. */
export function labelOf(segments, row) {
  const runs = encodeRuns(Uint8Array.from(row));
  return { image: 'S', rows: 1, columns: COLUMNS, segments, slices: [{ uid: 'a', frame: 1, runs }] };
}

/** OHIF with one series of one slice in one viewport, as far as labels need it; each change makes a new state. */
export class Ohif {
  constructor() {
    this.state = new Map();
    this.listeners = {};
    this.memos = [];
    this.removed = [];
    this.colours = {};
    this.pixels = new Uint8Array(COLUMNS);
    this.set = { SeriesInstanceUID: 'S', Modality: 'MR', imageIds: ['wadors:a/frames/1'] };
    this.service = new Service(this);
  }

  /** A viewer of ours in it. */
  viewer() {
    const viewports = new Map([['v', { displaySetInstanceUIDs: ['d'] }]]);
    const silent = { EVENTS: {}, subscribe: () => ({ unsubscribe() {} }) };
    const services = {
      segmentationService: this.service,
      viewportGridService: { ...silent, getState: () => ({ viewports, activeViewportId: 'v' }) },
      cornerstoneViewportService: { ...silent, getCornerstoneViewport: () => ({ type: 'stack' }) },
      displaySetService: { getDisplaySetByUID: () => this.set, getActiveDisplaySets: () => [this.set] },
    };
    return new OhifViewer(services, this.globals(), new EventTarget());
  }

  globals() {
    const image = { referencedImageId: 'wadors:a/frames/1', voxelManager: { getScalarData: () => this.pixels } };
    const segmentation = {
      updateSegmentations: (all) => all.forEach(({ segmentationId, payload }) => this.update(segmentationId, payload)),
      triggerSegmentationEvents: { triggerSegmentationDataModified: (id) => this.tell('DATA', id) },
    };
    const utilities = { HistoryMemo: { DefaultHistoryMemo: { push: (memo) => this.memos.push(memo) } }, uuidv4: () => 'id' };
    const cornerstone = { cache: { getImage: () => image }, metaData: { get: () => ({ sopInstanceUID: 'a' }) }, utilities };
    return { cornerstone, cornerstoneTools: { segmentation } };
  }

  tell(event, segmentationId) {
    (this.listeners[event] || []).forEach((listener) => listener({ segmentationId }));
  }

  update(id, payload) {
    this.state.set(id, { ...structuredClone(this.state.get(id)), ...payload });
    this.tell('MODIFIED', id);
  }

  /** Begin to count voxels as OHIF's worker does; what is returned ends it, which puts back the list of now. */
  statistics(segmentationId) {
    const { segments } = structuredClone(this.state.get(segmentationId));
    Object.values(segments).forEach((segment) => {
      segment.cachedStats = { volume: this.pixels.filter((label) => label === segment.segmentIndex).length };
    });
    return () => this.service.addOrUpdateSegmentation({ segmentationId, segments });
  }

  names(id) {
    return Object.fromEntries(Object.values(this.state.get(id).segments).map(({ segmentIndex, label }) => [segmentIndex, label]));
  }

  volumes(id) {
    const counted = Object.values(this.state.get(id).segments).filter(({ cachedStats }) => cachedStats?.volume !== undefined);
    return Object.fromEntries(counted.map(({ segmentIndex, cachedStats }) => [segmentIndex, cachedStats.volume]));
  }
}

/** The methods of OHIF's segmentation service that are used, with what they do to the state. */
class Service {
  EVENTS = { SEGMENTATION_DATA_MODIFIED: 'DATA', SEGMENTATION_MODIFIED: 'MODIFIED', SEGMENTATION_REPRESENTATION_MODIFIED: 'R', SEGMENTATION_REMOVED: 'X' };

  constructor(ohif) {
    this.ohif = ohif;
  }

  subscribe(event, listener) {
    (this.ohif.listeners[event] ||= []).push(listener);
    return { unsubscribe: () => this.ohif.listeners[event].splice(this.ohif.listeners[event].indexOf(listener), 1) };
  }

  getSegmentation(id) {
    return this.ohif.state.get(id);
  }

  async createLabelmapForDisplaySet(set, { segmentationId, segments }) {
    this.ohif.state.set(segmentationId, { segmentationId, segments, representationData: { Labelmap: { imageIds: ['l'] } } });
  }

  addOrUpdateSegmentation({ segmentationId, ...data }) {
    this.ohif.update(segmentationId, data);
  }

  addSegment(id, config = {}) {
    const { segments } = this.ohif.state.get(id);
    const segmentIndex = config.segmentIndex || Math.max(...Object.keys(segments).map(Number)) + 1;
    this.ohif.update(id, { segments: { ...segments, [segmentIndex]: { segmentIndex, label: `Segment ${segmentIndex}`, cachedStats: {}, ...config } } });
    this.setActiveSegment(id, segmentIndex);
    config.color && this.setSegmentColor('v', id, segmentIndex, config.color);
  }

  removeSegment(id, index) {
    const { [index]: _, ...segments } = this.ohif.state.get(id).segments;
    this.ohif.removed.push(id);
    this.ohif.update(id, { segments });
  }

  setSegmentLabel(id, index, label) {
    const { segments } = structuredClone(this.ohif.state.get(id));
    segments[index].label = label;
    this.ohif.update(id, { segments });
  }

  setActiveSegment(id, index) {
    const { segments } = structuredClone(this.ohif.state.get(id));
    Object.values(segments).forEach((segment) => Object.assign(segment, { active: segment.segmentIndex === index }));
    this.ohif.update(id, { segments });
  }

  setSegmentColor(viewport, id, index, color) {
    this.ohif.colours[index] = color;
  }

  getSegmentColor(viewport, id, index) {
    return this.ohif.colours[index] || [9, 9, 9, 255];
  }

  getViewportIdsWithSegmentation() {
    return ['v'];
  }

  getSegmentationRepresentations(viewport) {
    return [...this.ohif.state.keys()].map((segmentationId) => ({ segmentationId, viewport }));
  }

  setActiveSegmentation() {}
}
