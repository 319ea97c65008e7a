/**
 * Labels in OHIF: a label is one of OHIF's own segmentations, so that its brush, eraser, undo and all act on it.
 * Slices are found by their SOP instance UIDs; OHIF has its images in an order of its own.
 * @module
 */
import { Drawing, LABELMAP } from './drawing.js';
import { gridOf } from './grid.js';
import { Guard } from './guard.js';
import { Hand } from './hand.js';
import { History, withoutSegment } from './history.js';
import { decodeSlices, keyOf } from './runs.js';
import { idOf, imageOf, listed, sameSegments, segmentsOf } from './segments.js';

const FRAME = /\/frames\/(\d+)/;

/** @typedef {import('./types').LabelViewer} LabelViewer */

/** @implements {LabelViewer} */
export class OhifViewer extends Drawing {
  /**
   * @param {Record<string, any>} services of OHIF
   * @param {{cornerstone: any, cornerstoneTools: any}} [globals] as OHIF's page exposes them
   * @param {EventTarget} [page] where strokes are drawn
   */
  constructor(services, globals = window, page = window) {
    super(services, globals);
    this.history = new History(globals);
    this.subscriptions = [];
    const take = (image, change) => this.take(image, change);
    this.guard = new Guard(services.segmentationService, { take, remove: (image, id) => this.removeSegment(image, id) });
    this.taking = false; // what OHIF lists is a change of the person's
    this.hand = new Hand(page);
  }

  /**
   * Tell when a series becomes the active one, and when a label changes or is removed.
   * @param {{opened: (image: string) => void, modified: (image: string) => void, removed: (image: string) => void}} tell
   */
  watch(tell) {
    const { segmentationService, viewportGridService, cornerstoneViewportService } = this.services;
    this.guard.begin();
    this.hand.begin();
    const on = (service, event, action) => this.subscriptions.push(service.subscribe(service.EVENTS[event], action));
    const looked = () => {
      const image = this.activeDisplaySet()?.SeriesInstanceUID;
      if (image) {
        tell.opened(image);
      }
      this.drawEverywhere();
    };
    on(viewportGridService, 'ACTIVE_VIEWPORT_ID_CHANGED', looked);
    on(cornerstoneViewportService, 'VIEWPORT_DATA_CHANGED', looked);
    on(segmentationService, 'SEGMENTATION_DATA_MODIFIED', ({ segmentationId }) => tell.modified(imageOf(segmentationId)));
    on(segmentationService, 'SEGMENTATION_MODIFIED', ({ segmentationId }) => {
      this.heal(imageOf(segmentationId));
      tell.modified(imageOf(segmentationId));
    });
    on(segmentationService, 'SEGMENTATION_REPRESENTATION_MODIFIED', () => this.separate());
    on(segmentationService, 'SEGMENTATION_REMOVED', ({ segmentationId }) => tell.removed(imageOf(segmentationId)));
    looked();
  }

  /** Stop telling. */
  unwatch() {
    this.guard.end();
    this.hand.end();
    this.subscriptions.splice(0).forEach(({ unsubscribe }) => unsubscribe());
  }

  /** Wait for the end of a stroke that is being drawn. */
  strokeEnded() {
    return this.hand.lifted();
  }

  /**
   * @param {string} image
   * @param {import('./types').Label} label
   */
  async show(image, label) {
    const after = { segments: label.segments, pixels: decodeSlices(label) };
    const before = this.segmentation(image) ? this.moment(image) : null;
    if (!before) {
      this.organs.set(image, label.segments);
      const options = { segmentationId: idOf(image), label: 'MONAI Label', segments: segmentsOf(label.segments) };
      await this.services.segmentationService.createLabelmapForDisplaySet(this.displaySetOf(image), options);
    }
    this.hidden.set(image, new Set());
    this.restore(image, after);
    if (before) {
      this.history.record(before, after, (moment) => this.restore(image, moment));
    }
    await this.drawEverywhere();
  }

  /**
   * @param {string} image
   * @param {import('./types').Label} label of some slices, with all segments
   */
  replace(image, label) {
    const after = { segments: label.segments, pixels: decodeSlices(label) };
    const before = this.moment(image);
    this.restore(image, after);
    this.history.record(before, after, (moment) => this.restore(image, moment));
  }

  /** Let OHIF interpolate between slices; of our label that can be undone. @param {() => void} start */
  interpolate(start) {
    const { segmentationService, viewportGridService } = this.services;
    const active = segmentationService.getActiveSegmentation(viewportGridService.getActiveViewportId());
    const image = active ? imageOf(active.segmentationId) : '';
    if (!this.organs.has(image)) {
      start();
      return;
    }
    this.history.interpolate(start, () => this.moment(image), (moment) => this.restore(image, moment));
  }

  /** A label as it is now. @param {string} image @returns {import('./history.js').Moment} */
  moment(image) {
    const pixels = [...this.pixels(image)].map(([key, values]) => /** @type {const} */ ([key, values.slice()]));
    return { segments: this.segments(image), pixels: new Map(pixels) };
  }

  /** Make a label, or some of its slices, what they were. @param {string} image @param {import('./history.js').Moment} moment */
  restore(image, { segments, pixels }) {
    const ours = this.pixels(image);
    const missing = [...pixels.keys()].filter((key) => !ours.has(key));
    if (missing.length) {
      throw new Error(`The viewer does not show ${missing.length} slices of the series, such as ${missing[0]}.`);
    }
    this.organs.set(image, segments);
    this.viewportsOf(image).forEach((viewportId) => this.painted.delete(`${viewportId} ${image}`));
    this.list(image, segments);
    this.put(image, pixels);
    this.viewportsOf(image).forEach((viewportId) => this.paint(viewportId, image));
  }

  /** Have OHIF list these segments and no others. @param {string} image @param {import('./types').Segment[]} segments */
  list(image, segments) {
    const there = listed(this.segmentation(image));
    if (!sameSegments(segments, there)) {
      const payload = { segments: segmentsOf(segments, there.find(({ active }) => active)?.id) };
      this.globals.cornerstoneTools.segmentation.updateSegmentations([{ segmentationId: idOf(image), payload }]);
    }
  }

  /** @param {string} image @param {Map<string, Uint8Array>} pixels by slice */
  put(image, pixels) {
    const ours = this.pixels(image);
    pixels.forEach((values, key) => {
      const place = ours.get(key);
      if (place.length !== values.length) {
        throw new Error(`The label has ${values.length} pixels in a slice, the image ${place.length}.`);
      }
      place.set(values);
    });
    this.globals.cornerstoneTools.segmentation.triggerSegmentationEvents.triggerSegmentationDataModified(idOf(image));
  }

  /** @param {string} image @returns {Map<string, Uint8Array>} the viewer's own arrays by slice, in its order */
  pixels(image) {
    const { cache } = this.globals.cornerstone;
    const ids = this.segmentation(image)?.representationData?.[LABELMAP]?.imageIds;
    if (!ids) {
      throw new Error('The segmentation is not in the viewer any more.');
    }
    return new Map(
      ids.map((id) => {
        const slice = cache.getImage(id);
        return [keyOf(this.nameOf(slice.referencedImageId)), slice.voxelManager.getScalarData()];
      })
    );
  }

  /** @param {string} imageId of cornerstone @returns {import('./types').SliceName} */
  nameOf(imageId) {
    const uid = this.globals.cornerstone.metaData.get('sopCommonModule', imageId)?.sopInstanceUID;
    return { uid, frame: Number(FRAME.exec(imageId)?.[1] || 1) };
  }

  /** @param {string} image */
  read(image) {
    if (!this.segmentation(image)) {
      return null;
    }
    const pixels = this.pixels(image);
    return this.slices(image).map((name) => ({ name, pixels: pixels.get(keyOf(name)) }));
  }

  /** @param {string} image */
  grid(image) {
    const { metaData } = this.globals.cornerstone;
    return gridOf(this.displaySetOf(image).imageIds.map((id) => metaData.get('imagePlaneModule', id)));
  }

  /** @param {string} image @returns {import('./types').SliceName[]} in the order of the viewer */
  slices(image) {
    return this.displaySetOf(image).imageIds.map((id) => this.nameOf(id));
  }

  /** Let the person change what OHIF lists: add an organ, or rename one. @param {string} image @param {() => void} change */
  take(image, change) {
    this.taking = true;
    try {
      change();
    } finally {
      this.taking = false;
    }
    this.organs.set(image, this.segments(image)); // a colour comes last
  }

  /**
   * A list that is not ours came neither from the person nor from us: list ours again.
   * @param {string} image
   */
  heal(image) {
    if (!this.organs.has(image) || !this.segmentation(image)) {
      return;
    }
    if (this.taking) {
      this.organs.set(image, listed(this.segmentation(image)).map(({ id, name }) => ({ ...this.organ(image, id), id, name })));
      return;
    }
    this.list(image, this.organs.get(image));
    this.organs.set(image, this.segments(image));
  }

  /** @param {string} image @param {number} id */
  organ(image, id) {
    return this.organs.get(image)?.find((one) => one.id === id);
  }

  /** What the label holds, in the colours that are drawn. @param {string} image @returns {import('./types').Segment[]} */
  segments(image) {
    const { segmentationService } = this.services;
    const viewportId = this.viewportsOf(image).find((viewport) => this.painted.has(`${viewport} ${image}`));
    const organs = [...(this.organs.get(image) || [])].sort((one, other) => one.id - other.id);
    return organs.map(({ id, name, color }) => {
      const drawn = viewportId && segmentationService.getSegmentColor(viewportId, idOf(image), id);
      return { id, name, color: drawn ? [drawn[0], drawn[1], drawn[2]] : color };
    });
  }

  /** @param {string} image @returns {import('./types').SliceName | null} */
  currentSlice(image) {
    const { viewportGridService, cornerstoneViewportService } = this.services;
    const { activeViewportId } = viewportGridService.getState();
    const imageId = cornerstoneViewportService.getCornerstoneViewport(activeViewportId)?.getCurrentImageId?.();
    const name = imageId && keyOf(this.nameOf(imageId));
    return this.slices(image).find((slice) => keyOf(slice) === name) || null;
  }

  /** @param {string} image @param {string} name @param {[number, number, number]} [color] */
  addSegment(image, name, color) {
    const config = { label: name, ...(color && { color: [...color, 255] }) };
    this.services.segmentationService.addSegment(idOf(image), config);
  }

  /** OHIF's own way leaves voxels of organs that are not the active one. @param {string} image @param {number} id */
  removeSegment(image, id) {
    const before = this.moment(image);
    const after = withoutSegment(before, id);
    this.hidden.get(image)?.delete(id);
    this.restore(image, after);
    this.history.record(before, after, (moment) => this.restore(image, moment));
  }

  /** Make an organ the one that the brush paints. @param {string} image @param {number} id */
  activate(image, id) {
    this.services.segmentationService.setActiveSegment(idOf(image), id);
  }
}
