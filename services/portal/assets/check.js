// Checks a proof in this browser: the light client, compiled for WebAssembly, is loaded when
// somebody asks for it, and gets the proof as the network sent it.
(() => {
  const part = document.querySelector('[data-check]');
  if (!part || !window.WebAssembly) return;
  const at = name => part.querySelector(`[data-part=${name}]`);
  const button = part.querySelector('button'), field = part.querySelector('textarea'), keep = part.querySelector('input[type=checkbox]');
  const KEPT = 'runrig-network-key', SEEN = 'runrig-seen-';
  // A browser that keeps nothing checks all the same.
  const kept = name => { try { return localStorage.getItem(name) || ''; } catch { return ''; } };
  const put = (name, value) => {
    try { if (value) localStorage.setItem(name, value); else localStorage.removeItem(name); } catch { /* not kept */ }
  };
  const key = () => field.value.replace(/\s/g, '').toLowerCase();
  const look = () => {
    at('key').textContent = key().length > 12 ? key().slice(0, 6) + '…' + key().slice(-4) : key();
    at('other').hidden = key() === part.dataset.networkKey;
  };
  if (kept(KEPT)) {
    field.value = kept(KEPT);
    keep.checked = true;
  }
  field.addEventListener('input', look);
  look();
  part.hidden = false;

  let program = null;
  const load = async () => {
    const { instance } = await WebAssembly.instantiateStreaming(fetch(part.dataset.program));
    return instance.exports;
  };
  const ask = (wasm, request) => {
    const bytes = new TextEncoder().encode(JSON.stringify(request));
    const room = wasm.room(bytes.length);
    if (!room) throw new Error('The proof is too large to be checked here.');
    new Uint8Array(wasm.memory.buffer, room, bytes.length).set(bytes);
    const length = wasm.check();
    return JSON.parse(new TextDecoder().decode(new Uint8Array(wasm.memory.buffer, wasm.answer(), length)));
  };
  const copyOf = name => at(name).content.firstElementChild.cloneNode(true);
  const say = (good, first, second, steps) => {
    const box = copyOf(good ? 'holds' : 'fails');
    const [strong, rest] = box.querySelectorAll('p');
    strong.textContent = first;
    rest.textContent = second;
    at('said').replaceChildren(box);
    at('steps').replaceChildren(...steps.map(step => {
      const line = copyOf(step.good ? 'ok' : 'bad');
      line.querySelector('.tx span').textContent = step.what;
      return line;
    }));
  };
  const seen = () => { try { return JSON.parse(kept(SEEN + key())); } catch { return null; } };

  button.addEventListener('click', async () => {
    button.disabled = true;
    put(KEPT, keep.checked ? key() : '');
    try {
      program ??= await load();
      const sent = await fetch(part.dataset.proof, { headers: { 'hx-request': 'true' } });
      if (!sent.ok) throw new Error(`The portal did not send the proof (${sent.status}). Try again in a moment.`);
      const proof = await sent.text();
      const from = performance.now();
      const answer = ask(program, { about: JSON.parse(part.dataset.check), key: key(), now_ms: Date.now(), seen: seen(), proof });
      const took = Math.ceil(performance.now() - from);
      if (answer.seen) put(SEEN + key(), JSON.stringify(answer.seen));
      say(answer.good, answer.good ? `Checked in this browser, in ${took} ms` : 'Not verified in this browser', answer.said, answer.steps);
    } catch (error) {
      // Whatever it was about is lost with it.
      program = null;
      say(false, 'It could not be checked here', error.message, []);
    }
    button.disabled = false;
  });
})();
