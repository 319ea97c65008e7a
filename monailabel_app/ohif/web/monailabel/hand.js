/**
 * Whether a person holds a mouse button, a finger or a pen down: then they may be drawing a stroke.
 * @module
 */

const CAPTURE = { capture: true };
const ENDS = ['pointerup', 'pointercancel'];

export class Hand {
  /** @param {EventTarget} page gets the events of all that is on it */
  constructor(page) {
    this.page = page;
    this.down = false;
    this.waiting = /** @type {(() => void)[]} */ ([]);
    this.press = () => {
      this.down = true;
    };
    this.lift = () => {
      this.down = false;
      this.waiting.splice(0).forEach((go) => setTimeout(go)); // the tool takes its stroke from an event after this one
    };
    this.leave = ({ target }) => {
      if (target === this.page) {
        this.lift(); // the page itself, and not a button on it, lost the focus
      }
    };
    this.move = (event) => {
      if (this.down && event.buttons === 0) {
        this.lift(); // let go where the page could not see it
      }
    };
  }

  /** Begin to watch. */
  begin() {
    this.page.addEventListener('pointerdown', this.press, CAPTURE);
    this.page.addEventListener('pointermove', this.move, CAPTURE);
    this.page.addEventListener('blur', this.leave, CAPTURE);
    ENDS.forEach((end) => this.page.addEventListener(end, this.lift, CAPTURE));
  }

  /** Stop watching; nobody waits any longer. */
  end() {
    this.page.removeEventListener('pointerdown', this.press, CAPTURE);
    this.page.removeEventListener('pointermove', this.move, CAPTURE);
    this.page.removeEventListener('blur', this.leave, CAPTURE);
    ENDS.forEach((end) => this.page.removeEventListener(end, this.lift, CAPTURE));
    this.lift();
  }

  /** @returns {Promise<void>} done when nothing is held down */
  async lifted() {
    while (this.down) {
      await new Promise((resolve) => {
        this.waiting.push(() => resolve(undefined));
      });
    }
  }
}
