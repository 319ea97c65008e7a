/**
 * Which label OHIF draws in which viewport, and how: a label belongs to one series, its organs have colours.
 * @module
 */
import { idOf, isOurs, listed } from './segments.js';

export const LABELMAP = 'Labelmap';
const NO_IMAGES = ['SEG', 'RTSTRUCT', 'SR', 'PR', 'KO'];

/** The viewports of OHIF and what they draw. */
export class Drawing {
  /**
   * @param {Record<string, any>} services of OHIF
   * @param {{cornerstone: any, cornerstoneTools: any}} globals as OHIF's page exposes them
   */
  constructor(services, globals) {
    this.services = services;
    this.globals = globals;
    /** @type {Map<string, import('./types').Segment[]>} by series: what its label holds, whatever OHIF lists */
    this.organs = new Map();
    /** @type {Map<string, Set<number>>} organs that are not drawn, by series */
    this.hidden = new Map();
    /** @type {Set<string>} viewports and labels that have got our colours; OHIF gives its own to new ones */
    this.painted = new Set();
  }

  /** The display set of images in the active viewport. */
  activeDisplaySet() {
    const { viewportGridService } = this.services;
    const { viewports, activeViewportId } = viewportGridService.getState();
    return this.imagesOf(viewports.get(activeViewportId));
  }

  /** @param {{displaySetInstanceUIDs?: string[]} | undefined} viewport of the grid */
  imagesOf(viewport) {
    const { displaySetService } = this.services;
    const sets = (viewport?.displaySetInstanceUIDs || []).map((uid) => displaySetService.getDisplaySetByUID(uid));
    return sets.find((set) => set?.imageIds?.length && !NO_IMAGES.includes(set.Modality));
  }

  /** @param {string} image series instance UID */
  displaySetOf(image) {
    const sets = this.services.displaySetService.getActiveDisplaySets();
    const found = sets.find((set) => set.SeriesInstanceUID === image && set.imageIds?.length);
    if (!found) {
      throw new Error('The series is not open in the viewer.');
    }
    return found;
  }

  /**
   * Whose image it is, and which, as a person reads it.
   * @param {string} image
   * @returns {{patient: string, series: string}}
   */
  titleOf(image) {
    const set = this.displaySetOf(image);
    const { PatientName, PatientID, StudyDate, SeriesNumber, SeriesDescription } = set.instances?.[0] || set.images?.[0] || {};
    const name = [PatientName].flat()[0];
    const patient = String(name?.Alphabetic ?? name ?? '').replaceAll('^', ' ').trim();
    const date = String(StudyDate || '').replace(/^(\d{4})(\d{2})(\d{2})$/, '$1-$2-$3');
    const series = [SeriesNumber && `${SeriesNumber}:`, SeriesDescription || 'series without a description'];
    return {
      patient: [patient || 'no name', PatientID].filter(Boolean).join(' · '),
      series: [series.filter(Boolean).join(' '), date].filter(Boolean).join(' · '),
    };
  }

  /** @param {string} image @returns {number | undefined} the organ that is painted */
  activeSegment(image) {
    return listed(this.segmentation(image)).find(({ active }) => active)?.id;
  }

  /** @param {string} image */
  segmentation(image) {
    return this.services.segmentationService.getSegmentation(idOf(image));
  }

  /** @param {string} image @param {number} id @returns {boolean} */
  isVisible(image, id) {
    const viewportId = this.viewportsOf(image)[0];
    const { getSegmentIndexVisibility } = this.globals.cornerstoneTools.segmentation.config.visibility;
    return !viewportId || getSegmentIndexVisibility(viewportId, { segmentationId: idOf(image), type: LABELMAP }, id);
  }

  /** @param {string} image @param {number} id @param {boolean} visible */
  setVisible(image, id, visible) {
    this.hidden.get(image)?.[visible ? 'delete' : 'add'](id);
    for (const viewportId of this.viewportsOf(image)) {
      this.services.segmentationService.setSegmentVisibility(viewportId, idOf(image), id, visible, LABELMAP);
    }
  }

  /** @param {string} image @returns {string[]} viewports that draw its label */
  viewportsOf(image) {
    return this.services.segmentationService.getViewportIdsWithSegmentation(idOf(image));
  }

  /** Draw labels in viewports that show their series and do not draw them yet. */
  async drawEverywhere() {
    const { segmentationService, viewportGridService, cornerstoneViewportService } = this.services;
    for (const [viewportId, viewport] of viewportGridService.getState().viewports) {
      const image = this.imagesOf(viewport)?.SeriesInstanceUID;
      const cornerstoneViewport = cornerstoneViewportService.getCornerstoneViewport(viewportId);
      if (!image || !cornerstoneViewport || cornerstoneViewport.type === 'volume3d' || !this.segmentation(image)) {
        continue;
      }
      const segmentationId = idOf(image);
      if (!segmentationService.getSegmentationRepresentations(viewportId, { segmentationId }).length) {
        await segmentationService.addSegmentationRepresentation(viewportId, { segmentationId, type: LABELMAP });
      }
      this.paint(viewportId, image);
    }
    this.separate();
  }

  /**
   * Where series share a frame of reference, OHIF draws the label of one in the viewports of all; then the brush paints
   * whichever was drawn last. A viewport keeps the label of the series that it shows, and no other of ours.
   */
  separate() {
    const { segmentationService, viewportGridService } = this.services;
    for (const [viewportId, viewport] of viewportGridService.getState().viewports) {
      const image = this.imagesOf(viewport)?.SeriesInstanceUID;
      if (!image) {
        continue;
      }
      const own = idOf(image);
      const drawn = segmentationService.getSegmentationRepresentations(viewportId).map((one) => one.segmentationId);
      const strangers = drawn.filter((id) => isOurs(id) && id !== own);
      strangers.forEach((segmentationId) => {
        segmentationService.removeRepresentationsFromViewport(viewportId, { segmentationId });
      });
      if (strangers.length && drawn.includes(own)) {
        segmentationService.setActiveSegmentation(viewportId, own);
      }
    }
  }

  /** Give the organs their colours. @param {string} viewportId @param {string} image */
  paint(viewportId, image) {
    const { segmentationService } = this.services;
    this.painted.add(`${viewportId} ${image}`);
    for (const { id, color } of this.organs.get(image) || []) {
      if (color && this.segmentation(image).segments[id]) {
        segmentationService.setSegmentColor(viewportId, idOf(image), id, [...color, 255]);
      }
    }
    for (const id of this.hidden.get(image) || []) {
      segmentationService.setSegmentVisibility(viewportId, idOf(image), id, false, LABELMAP);
    }
  }
}
