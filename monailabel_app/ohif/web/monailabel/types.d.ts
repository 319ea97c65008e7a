/** What server and panel tell each other, and what the panel needs of OHIF. */

declare global {
  interface Window {
    /** OHIF's settings, which `app-config.js` makes. */
    config: object;
    /** OHIF exposes its parts. */
    cornerstone: any;
    cornerstoneTools: any;
  }
}

export interface SliceName {
  /** SOP instance UID. */
  uid: string;
  /** Number of the frame, from 1. */
  frame: number;
}

export interface SliceLabels extends SliceName {
  /** `[count, label, count, label, …]`, row after row. */
  runs: number[];
}

export interface Segment {
  id: number;
  name: string;
  /** Red, green, blue, each 0 to 255. */
  color?: [number, number, number];
}

export interface LabelOrigin {
  /** "original": by a model; "final": stored by a person. */
  tag: 'original' | 'final';
  by?: string | null;
  /** Seconds since 1970. */
  time: number | null;
  model: string | null;
  model_version: string | null;
  /** "stored", "waits", "local", or why the PACS cannot have it. */
  pacs?: string;
  digest?: string;
  /** What makes an automatic label doubtful. */
  warnings?: string[];
  /** How sure the model was of each organ, 0 to 1. */
  confidence?: Record<string, number>;
}

export interface Label extends LabelOrigin {
  image: string;
  rows: number;
  columns: number;
  voxel_ml: number;
  segments: Segment[];
  slices: SliceLabels[];
}

export interface ImageState {
  image: string;
  study: string | null;
  state: 'unlabelled' | 'automatic' | 'corrected' | 'reviewed';
  label: LabelOrigin | null;
  /** Who has approved the stored label. */
  reviewed_by?: string | null;
}

/** How a segmentation is asked for: under a name by which the server stops it, and until the signal. */
export interface HowAsked {
  run: string;
  signal: AbortSignal;
}

export interface Submission {
  client_id: string;
  model: string | null;
  model_version: string | null;
  segments: Segment[];
  slices: SliceLabels[];
  /** Digest of the final label that is replaced, null for none; without it any is. */
  base?: string | null;
}

export interface Draft {
  /** Which time that somebody took up the series. */
  visit: string;
  /** Milliseconds since 1970. */
  saved: number;
  origin: LabelOrigin;
  base: string | null;
  label: Label;
}

export interface Message {
  kind: 'error' | 'warn' | 'done';
  text: string;
  /** What the person can do about it. */
  actions?: ('again' | 'replace' | 'load' | 'save' | 'login' | 'bring')[];
}

/** One series. */
export interface Case {
  /** Series instance UID. */
  image: string;
  /** Which time that somebody took up the series. */
  visit: string;
  /** Of the label that is shown. */
  origin: LabelOrigin | null;
  /** Digest of the stored label that storing replaces. */
  base: string | null;
  /** As it was shown when it was looked at last. */
  label: Label | null;
  /** Hash of it, and of what the server has. */
  hash: string | null;
  stored: string | null;
  /** Reads it. */
  survey: import('./survey.js').Survey;
  /** Voxels by label, as they are and as the model found them. */
  counts: number[];
  found: number[];
  /** Changed and not stored. */
  dirty: boolean;
  /** Changes of another time that were not stored. */
  draft: Draft | null;
  /** What is being done, empty for nothing. */
  busy: string;
  /** Since when, in milliseconds since 1970, and what ends it, if anything does. */
  since: number;
  stop: (() => void) | null;
  /** Who has approved the stored label. */
  reviewed: string | null;
  message: Message | null;
}

export interface Training {
  running: boolean;
  model: string | null;
  progress: Record<string, { epoch?: number; total_epochs?: number; best_metric?: number | null }>;
  /** Why the last one has failed. */
  failed?: string | null;
}

export interface Model {
  name: string;
  version: string;
  description: string;
  licence: string;
  segments: Segment[];
  /** A version that was learnt and is not served, and mean Dice on held-out patients. */
  waits: { version: string; dice: { new: number | null; served: number | null } | null } | null;
}

export interface Overview {
  version: string;
  note: string;
  models: Model[];
  strategies: Record<string, string>;
  progress: { total: number; corrected: number; reviewed: number };
  training: Training;
}

/** The viewer as a session sees it; `viewer.js` is the one of OHIF, tests have their own. */
export interface LabelViewer {
  /** Done when no stroke is being drawn; a label that is put in its place then would be half drawn over. */
  strokeEnded(): Promise<void>;
  /** Show a label in all viewports of a series, in place of what is shown; can be undone if something is. */
  show(image: string, label: Label): Promise<void>;
  /** Replace some slices of the shown label; can be undone. */
  replace(image: string, label: Label): void;
  /** Labels of every slice as they are now; null if nothing is shown. */
  read(image: string): { name: SliceName; pixels: Uint8Array }[] | null;
  /** Segments as they are now. */
  segments(image: string): Segment[];
  /** Slices in the order of the viewer. */
  slices(image: string): SliceName[];
  /** Of a series. */
  grid(image: string): { rows: number; columns: number; voxel_ml: number };
  /** The slice that is looked at, null in other planes than the series' own. */
  currentSlice(image: string): SliceName | null;
}

/** The viewer's own list of what the PACS has; `results.js` is the one of OHIF. */
export interface StoredResults {
  /** The PACS has another segmentation of a series. Does not fail. */
  renew(image: string): Promise<void>;
}

/** What a session needs of the server; `server.js` is the one, tests have their own. */
export interface LabelServer {
  overview(): Promise<Overview>;
  image(image: string): Promise<ImageState>;
  label(image: string): Promise<Label>;
  segment(image: string, model: string, slices: SliceName[] | null, how: HowAsked): Promise<Label>;
  stopSegmenting(run: string): Promise<unknown>;
  store(image: string, submission: Submission): Promise<LabelOrigin>;
  nextStudy(strategy: string, who: string): Promise<{ image: string; study: string | null } | null>;
  skip(image: string, who: string): Promise<unknown>;
  review(image: string, who: string): Promise<unknown>;
  promote(model: string, version: string, who: string): Promise<unknown>;
  train(model: string, who: string): Promise<unknown>;
  stopTraining(): Promise<unknown>;
}

/** Keeps drafts by image; `drafts.js` does so in the browser. */
export interface DraftStore {
  get(image: string): Promise<Draft | undefined>;
  put(image: string, draft: Draft): Promise<unknown>;
  remove(image: string, visit: string): Promise<unknown>;
}

/** What a session is made of. */
export interface SessionParts {
  server: LabelServer;
  viewer: LabelViewer;
  drafts: DraftStore;
  results: StoredResults;
  /** Keeps the person's name. */
  storage: Pick<Storage, 'getItem' | 'setItem'>;
  now?: () => number;
}
