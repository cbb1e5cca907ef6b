// A shell in a replica. xterm's core keeps what the terminal shows; it is drawn here as text, so
// that the content policy needs no exception. Keys go as terminals send them.
const box = document.querySelector('.term');
const state = document.getElementById(box.dataset.state);
const { Terminal } = await import(box.dataset.library);
const term = new Terminal({ cols: 80, rows: 24, scrollback: 2000, allowProposedApi: true });
const screen = document.createElement('div');
screen.className = 'screen';
const keys = document.createElement('textarea');
keys.className = 'keys';
keys.rows = 1;
for (const [name, value] of Object.entries({ 'aria-label': box.dataset.label, autocapitalize: 'off', autocomplete: 'off', autocorrect: 'off', spellcheck: 'false' })) keys.setAttribute(name, value);
box.replaceChildren(screen, keys);
const say = (text, tone) => { state.textContent = text; state.className = 'badge ' + tone; };

// Drawing: one element for each row, one for each run of cells that look alike.
const level = n => n ? 55 + n * 40 : 0;
const rgb = n => {
  if (n >= 232) return `rgb(${Array(3).fill(8 + (n - 232) * 10)})`;
  const at = n - 16;
  return `rgb(${[at / 36 | 0, (at / 6 | 0) % 6, at % 6].map(level)})`;
};
const colour = (span, side, property, palette, value) => {
  if (palette && value < 16) span.classList.add(side + value);
  else span.style[property] = palette ? rgb(value) : '#' + value.toString(16).padStart(6, '0');
};
const paint = (span, cell, cursor) => {
  for (const [name, is] of [['bold', cell.isBold()], ['dim', cell.isDim()], ['italic', cell.isItalic()], ['under', cell.isUnderline()], ['inverse', cell.isInverse()], ['hidden', cell.isInvisible()], ['cursor', cursor]]) {
    if (is) span.classList.add(name);
  }
  if (!cell.isFgDefault()) colour(span, 'f', 'color', cell.isFgPalette(), cell.getFgColor());
  if (!cell.isBgDefault()) colour(span, 'b', 'backgroundColor', cell.isBgPalette(), cell.getBgColor());
};
const look = cell => [cell.getFgColorMode(), cell.getFgColor(), cell.getBgColorMode(), cell.getBgColor(), cell.isBold(), cell.isDim(), cell.isItalic(), cell.isUnderline(), cell.isInverse(), cell.isInvisible()].join();
const drawn = [];
const draw = () => {
  const buffer = term.buffer.active, top = buffer.viewportY, cell = buffer.getNullCell();
  const blank = look(cell) + false;
  for (let y = 0; y < term.rows; y++) {
    const row = screen.children[y] || screen.appendChild(document.createElement('div'));
    const line = buffer.getLine(top + y), runs = [];
    for (let x = 0; line && x < term.cols; x++) {
      line.getCell(x, cell);
      if (!cell.getWidth()) continue;
      const cursor = top === buffer.baseY && y === buffer.cursorY && x === buffer.cursorX;
      const key = look(cell) + cursor, text = cell.getChars() || ' ';
      const run = runs.at(-1);
      if (run?.key === key) { run.text += text; continue; }
      const span = document.createElement('span');
      paint(span, cell, cursor);
      runs.push({ key, text, span });
    }
    // What is copied has no space at the ends of its lines.
    if (runs.at(-1)?.key === blank) runs.at(-1).text = runs.at(-1).text.trimEnd();
    const whole = JSON.stringify(runs.map(r => [r.key, r.text]));
    if (drawn[y] === whole) continue;
    drawn[y] = whole;
    row.replaceChildren(...runs.map(r => { r.span.textContent = r.text; return r.span; }));
  }
  while (screen.childElementCount > term.rows) screen.lastElementChild.remove();
  drawn.length = term.rows;
};
let drawing = false;
const redraw = () => {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; draw(); });
};

// Size: as many cells as there is room for.
const fit = () => {
  const probe = document.createElement('span');
  probe.textContent = 'W'.repeat(100);
  screen.append(probe);
  const wide = probe.getBoundingClientRect().width / 100;
  probe.remove();
  const tall = parseFloat(getComputedStyle(screen).lineHeight);
  const style = getComputedStyle(box);
  const across = box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const down = box.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
  term.resize(Math.max(20, Math.floor(across / wide)), Math.max(4, Math.floor(down / tall)));
};

// The wire: bytes of the terminal, and beside them sizes and what has been drawn.
let socket = null;
const tell = words => { if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(words)); };
const encoder = new TextEncoder();
const send = text => {
  if (socket?.readyState !== WebSocket.OPEN) return;
  const bytes = encoder.encode(text);
  for (let at = 0; at < bytes.length; at += 16384) socket.send(bytes.subarray(at, at + 16384));
  term.scrollToBottom();
};
const size = () => { fit(); tell({ rows: term.rows, columns: term.cols }); redraw(); };
const open = () => {
  let over = 'Cut off', written = 0, told = 0;
  const at = new URL(box.dataset.socket, location.href);
  at.protocol = at.protocol === 'https:' ? 'wss:' : 'ws:';
  const own = socket = new WebSocket(at);
  own.binaryType = 'arraybuffer';
  own.onopen = () => { say('Live', 'ok'); size(); keys.focus({ preventScroll: true }); };
  own.onmessage = e => {
    if (typeof e.data === 'string') {
      const said = JSON.parse(e.data);
      over = 'exit' in said ? 'Ended with exit code ' + said.exit : said.over;
      return;
    }
    const bytes = new Uint8Array(e.data);
    term.write(bytes, () => {
      written += bytes.length;
      if (written - told > 65536) { told = written; tell({ drawn: written }); }
      redraw();
    });
  };
  own.onclose = () => {
    say(over, over.endsWith('code 0') ? '' : 'warn');
    const again = document.createElement('button');
    again.className = 'btn small';
    again.textContent = 'Open another';
    again.onclick = () => { again.remove(); term.reset(); say('Opening', ''); open(); };
    state.after(again);
  };
};
term.onData(send);

// Keys that are no text, as xterm sends them.
const ends = { ArrowUp: 'A', ArrowDown: 'B', ArrowRight: 'C', ArrowLeft: 'D', Home: 'H', End: 'F' };
const tildes = { Insert: 2, Delete: 3, PageUp: 5, PageDown: 6, F5: 15, F6: 17, F7: 18, F8: 19, F9: 20, F10: 21, F11: 23, F12: 24 };
const first = { F1: 'P', F2: 'Q', F3: 'R', F4: 'S' };
const sequence = e => {
  const held = 1 + e.shiftKey + 2 * e.altKey + 4 * e.ctrlKey;
  if (ends[e.key]) return held > 1 ? `\x1b[1;${held}${ends[e.key]}` : (term.modes.applicationCursorKeysMode ? '\x1bO' : '\x1b[') + ends[e.key];
  if (tildes[e.key]) return `\x1b[${tildes[e.key]}${held > 1 ? ';' + held : ''}~`;
  if (first[e.key]) return held > 1 ? `\x1b[1;${held}${first[e.key]}` : '\x1bO' + first[e.key];
  switch (e.key) {
    case 'Enter': return '\r';
    case 'Escape': return '\x1b';
    case 'Backspace': return e.altKey ? '\x1b\x7f' : '\x7f';
    // Shift and Tab leaves the terminal: nobody is to be caught in it.
    case 'Tab': return e.shiftKey ? null : '\t';
  }
  if (e.key.length !== 1 || e.metaKey) return null;
  if (e.ctrlKey && !e.altKey) {
    // Copied where something is marked; pasted by the browser.
    if (e.key === 'c' && getSelection().toString()) return null;
    if (e.shiftKey || e.key === 'v') return null;
    if (e.key === ' ') return '\0';
    const code = e.key.toUpperCase().charCodeAt(0);
    return code >= 64 && code <= 95 ? String.fromCharCode(code - 64) : null;
  }
  return e.altKey && !e.ctrlKey ? '\x1b' + e.key : null;
};
keys.addEventListener('keydown', e => {
  // The page's own keys are the terminal's here.
  e.stopPropagation();
  if (e.isComposing) return;
  const text = sequence(e);
  if (text === null) return;
  e.preventDefault();
  send(text);
});
const typed = e => {
  if (e.isComposing) return;
  send(keys.value.replace(/\n/g, '\r'));
  keys.value = '';
};
keys.addEventListener('input', typed);
keys.addEventListener('compositionend', typed);
keys.addEventListener('paste', e => {
  e.preventDefault();
  const text = e.clipboardData.getData('text').replace(/\r?\n/g, '\r');
  send(term.modes.bracketedPasteMode ? `\x1b[200~${text.replace(/\x1b/g, '')}\x1b[201~` : text);
});
box.addEventListener('mouseup', () => { if (!getSelection().toString()) keys.focus({ preventScroll: true }); });
box.addEventListener('wheel', e => {
  const lines = Math.sign(e.deltaY) * 3;
  if (term.buffer.active.type === 'alternate') send((lines < 0 ? '\x1b[A' : '\x1b[B').repeat(3));
  else term.scrollLines(lines);
  e.preventDefault();
  redraw();
}, { passive: false });

let resizing = 0;
new ResizeObserver(() => { clearTimeout(resizing); resizing = setTimeout(size, 100); }).observe(box);
await document.fonts.ready;
open();
