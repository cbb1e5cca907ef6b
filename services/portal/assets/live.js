// Holds the one stream of all tabs; lets go of it while none is looked at.
const ports = new Map();
let source = null, last = null;
const tell = tick => { last = tick; for (const port of ports.keys()) port.postMessage(tick); };
const tend = () => {
  const wanted = [...ports.values()].some(Boolean);
  if (wanted && !source) {
    source = new EventSource('/live');
    source.onmessage = e => tell(JSON.parse(e.data));
    source.onerror = () => tell({ ...last, stale: true });
  } else if (!wanted && source) {
    source.close();
    source = null;
  }
};
onconnect = e => {
  const port = e.ports[0];
  ports.set(port, true);
  port.onmessage = m => {
    if (m.data === 'gone') ports.delete(port); else ports.set(port, m.data === 'shown');
    tend();
  };
  if (last) port.postMessage(last);
  tend();
};
