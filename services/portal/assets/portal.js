// Progressive parts of the portal. Every page works without them.
(() => {
  const $ = (s, r = document) => r.querySelector(s);
  const all = (s, r = document) => [...r.querySelectorAll(s)];

  // Ctrl K or / goes to the search field; Escape closes what is open.
  addEventListener('keydown', e => {
    const field = $('#search');
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName || '');
    if (field && ((e.key === 'k' && (e.ctrlKey || e.metaKey)) || (e.key === '/' && !typing))) {
      e.preventDefault();
      field.focus();
      field.select();
    }
    if (e.key === 'Escape') {
      all('details.pop[open]').forEach(d => { d.open = false; });
      if (location.hash === '#nav') location.hash = '';
    }
  });
  addEventListener('click', e => {
    all('details.pop[open]').forEach(d => { if (!d.contains(e.target)) d.open = false; });
    const copy = e.target.closest('[data-copy]');
    if (copy) {
      navigator.clipboard?.writeText(copy.dataset.copy).then(() => {
        const label = copy.getAttribute('aria-label');
        copy.setAttribute('aria-label', 'Copied');
        copy.classList.add('ok');
        setTimeout(() => { copy.setAttribute('aria-label', label); copy.classList.remove('ok'); }, 1500);
      });
    }
  });

  // The theme changes at once; the server keeps it for the next page.
  const theme = $('form.theme');
  theme?.addEventListener('submit', e => {
    e.preventDefault();
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    root.dataset.theme = dark ? 'light' : 'dark';
    const body = new URLSearchParams(new FormData(theme));
    body.set('theme', root.dataset.theme);
    fetch(theme.action, { method: 'POST', body, redirect: 'manual' });
    dispatchEvent(new Event('themed'));
  });

  // How strong a password is, by the same rules as the server's.
  const meter = $('[data-strength]');
  if (meter) {
    const field = document.getElementById(meter.dataset.strength);
    const words = ['Too short: 10 characters or more', 'Weak', 'Fair', 'Good', 'Strong'];
    const say = () => {
      const p = field.value;
      const classes = [/[a-z]/, /[A-Z]/, /[0-9]/, /[^a-zA-Z0-9]/].filter(c => c.test(p)).length;
      const unique = new Set(p).size;
      let score = 0;
      if ([...p].length >= 10 && unique >= 5) {
        score = 1 + (p.length >= 12) + (p.length >= 16 || classes >= 3) + (unique >= 12);
      }
      score = Math.min(score, 4);
      meter.dataset.score = score;
      const note = document.getElementById(meter.dataset.words);
      note.textContent = p ? words[score] : note.dataset.idle;
    };
    field.addEventListener('input', say);
    say();
  }

  // One stream for all tabs: a shared worker holds it; without one, this tab does.
  // What moves by itself says since when it does not: the stream was lost, or a part was not to be had.
  const still = $('[data-stale]'), lost = { stream: !!still && !still.hidden, part: false };
  let good = 0, shows = 0;
  const moves = (what, is) => {
    if (!still) return;
    const before = lost.stream || lost.part;
    lost[what] = !is;
    const now = lost.stream || lost.part;
    if (now === before) { if (!now) good = Date.now(); return; }
    clearTimeout(shows);
    if (!now) { still.hidden = true; good = Date.now(); return; }
    $('time', still).textContent = new Date(good || performance.timeOrigin).toISOString().slice(11, 19) + ' UTC';
    // A stream that is opened anew is no loss, and whoever leaves the page needs no note.
    shows = setTimeout(() => { still.hidden = false; }, 2500);
  };
  const heard = tick => {
    moves('stream', !tick.stale);
    if (tick.height) all('[data-live=height]').forEach(n => { n.textContent = tick.height.toLocaleString('en').replace(/,/g, ' '); });
    all('.chip.block').forEach(n => n.classList.toggle('stale', !!tick.stale));
    document.body.dispatchEvent(new CustomEvent('tick', { detail: tick, bubbles: true }));
  };
  const url = document.body.dataset.live;
  if (url) setTimeout(() => {
    if (window.SharedWorker) {
      const worker = new SharedWorker(document.body.dataset.worker);
      worker.port.onmessage = e => heard(e.data);
      worker.port.start();
      const shown = () => worker.port.postMessage(document.hidden ? 'hidden' : 'shown');
      document.addEventListener('visibilitychange', shown);
      addEventListener('pagehide', () => worker.port.postMessage('gone'));
      shown();
    } else {
      let source = null;
      const shown = () => {
        source?.close();
        source = null;
        if (document.hidden) return;
        source = new EventSource(url);
        source.onmessage = e => heard(JSON.parse(e.data));
        source.onerror = () => heard({ ...last, stale: true });
      };
      let last = { height: 0 };
      document.addEventListener('visibilitychange', shown);
      shown();
    }
  }, 1200);

  // Parts that follow the chain: read again after a block, at most every few seconds.
  all('[data-refresh]').forEach(part => {
    let at = Date.now(), busy = false;
    // What somebody has the pointer or the keyboard on stays as it is, and what he has opened too.
    const held = () => part.contains(document.activeElement) || part.querySelector(':active, details.pop[open]');
    const every = Number(part.dataset.every || 3) * 1000;
    document.body.addEventListener('tick', async () => {
      if (busy || document.hidden || Date.now() - at < every || held()) return;
      busy = true;
      try {
        const answer = await fetch(part.dataset.refresh, { headers: { 'hx-request': 'true' } });
        const words = await answer.text();
        if (answer.ok && !held()) part.innerHTML = words;
        moves('part', answer.ok);
      } catch { moves('part', false); }
      at = Date.now();
      busy = false;
    });
  });

  // A log that is followed: closed while the tab is hidden, resumed where it was.
  const log = $('.log[data-stream]');
  if (log) {
    let source = null, last = '';
    const state = document.getElementById(log.dataset.state);
    const kinds = new Map();
    const say = (text, stale) => { state.textContent = text; state.className = 'badge ' + (stale ? 'warn' : 'ok'); };
    // What colours a terminal, and what else no page shows.
    const plain = text => text.replace(/\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|[\x00-\x08\x0a-\x1f\x7f\u202a-\u202e\u2066-\u2069]/g, '');
    // All that came since the last picture at once: each look at heights lays the page out anew.
    let fresh = null;
    const add = p => {
      if (!fresh) {
        fresh = document.createDocumentFragment();
        requestAnimationFrame(() => {
          const end = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
          log.append(fresh);
          fresh = null;
          while (log.childElementCount > 5000) log.firstElementChild.remove();
          if (end) log.scrollTop = log.scrollHeight;
        });
      }
      fresh.append(p);
    };
    const note = words => {
      const p = document.createElement('p');
      p.className = 'note';
      p.textContent = plain(words);
      add(p);
    };
    const line = l => {
      const p = document.createElement('p');
      if (l.stream === 'stderr') p.className = 'stderr';
      const time = document.createElement('time');
      time.textContent = new Date(l.at_ms).toISOString().slice(11, 23);
      const from = document.createElement('span');
      const name = l.service + '.' + l.replica;
      if (!kinds.has(name)) kinds.set(name, kinds.size % 4 + 1);
      from.className = 'from k' + kinds.get(name);
      from.textContent = name;
      from.title = l.allocation;
      p.append(time, from, document.createTextNode(plain(l.text)));
      add(p);
    };
    const open = () => {
      const at = new URL(log.dataset.stream, location.href);
      if (last) at.searchParams.set('after', last);
      source = new EventSource(at);
      source.onopen = () => { log.querySelector('.waiting')?.remove(); say('Live'); };
      source.onmessage = e => { last = e.lastEventId; if (state.textContent !== 'Live') say('Live'); line(JSON.parse(e.data)); };
      source.addEventListener('note', e => note(JSON.parse(e.data)));
      source.addEventListener('over', e => say(JSON.parse(e.data), true));
      source.onerror = () => {
        // Opened anew with the last place seen: no gap, no repeat.
        source.close();
        say('Reconnecting', true);
        clearTimeout(again);
        again = setTimeout(() => { if (!document.hidden) open(); }, 1000);
      };
    };
    let again = 0;
    document.addEventListener('visibilitychange', () => {
      // One stream at a time: one that waits to be opened again is not opened twice.
      clearTimeout(again);
      source?.close();
      if (document.hidden) say('Paused while hidden', true); else open();
    });
    open();
  }

  // Live use of cores and memory: measured by the hosts, drawn from when the page opened.
  addEventListener('DOMContentLoaded', () => {
    const use = $('.live[data-stream]');
    if (!use || !window.uPlot) return;
    const data = [[], [], []];
    const color = name => {
      const probe = document.createElement('i');
      probe.className = 'key ' + name;
      document.body.append(probe);
      const value = getComputedStyle(probe).backgroundColor;
      probe.remove();
      return value;
    };
    let plot = null;
    const draw = () => {
      plot?.destroy();
      use.querySelector('.uplot')?.remove();
      const ink = getComputedStyle(document.body).getPropertyValue('color');
      const grid = getComputedStyle(use.closest('.card')).borderTopColor;
      const dim = getComputedStyle(use).color;
      const axis = { stroke: dim, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: '11.5px Geist, sans-serif' };
      plot = new uPlot({
        width: use.clientWidth, height: 214, cursor: { y: false }, legend: { show: false },
        scales: { x: { range: (u, min, max) => [Math.min(min, max - 60), max] }, y: { range: (u, min, max) => [0, Math.max(10, Math.ceil(max / 10) * 10)] } },
        axes: [{ ...axis, grid: { show: false }, space: 90, incrs: [5, 10, 30, 60, 120, 300], values: (u, v) => v.map(x => new Date(x * 1000).toTimeString().slice(0, 8)) }, { ...axis, size: 46, values: (u, v) => v.map(x => x + '%') }],
        series: [{}, { label: 'CPU', stroke: color('k1'), width: 1.8, points: { show: false } },
          { label: 'Memory', stroke: color('k2'), width: 1.8, points: { show: false } }],
      }, data, use);
    };
    let source = null;
    const text = document.getElementById(use.dataset.text);
    const open = () => {
      source = new EventSource(use.dataset.stream);
      source.onmessage = e => {
        const s = JSON.parse(e.data);
        use.querySelector('.empty, .skeleton')?.remove();
        data[0].push(s.at_ms / 1000); data[1].push(s.cpu); data[2].push(s.memory);
        if (data[0].length > 300) data.forEach(d => d.shift());
        if (plot) plot.setData(data); else draw();
        text.textContent = s.words;
        moves('part', true);
      };
      source.onerror = () => moves('part', false);
    };
    let first = 0;
    document.addEventListener('visibilitychange', () => {
      clearTimeout(first);
      source?.close();
      if (!document.hidden) open();
    });
    addEventListener('resize', () => plot?.setSize({ width: use.clientWidth, height: 214 }));
    addEventListener('themed', () => { if (plot) draw(); });
    first = setTimeout(() => { if (!document.hidden) open(); }, 1200);
  });
})();
