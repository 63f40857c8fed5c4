/** One websocket for a page: reconnects with backoff, repeats its watches, and knows how late it is. */

const SILENCE = 12_000;
const PING = 4_000;
const BACKOFF = [300, 1000, 2000, 4000, 8000, 15_000];

/**
 * Open the socket. `watches()` gives the frames to send at every connect, so that cursors are fresh;
 * `heard(message)` gets every answer; `told(status)` gets {level, words}.
 */
export function connect(path, { watches, heard, told }) {
  let socket = null;
  let failures = 0;
  let last = 0;
  let offset = null;
  let timer = null;

  const send = (frame) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(frame));

  function open() {
    clearTimeout(timer);
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(`${scheme}//${location.host}${path}`);
    socket.onopen = () => {
      failures = 0;
      last = Date.now();
      offset = null;
      told({ level: "live", words: "live" });
      watches().forEach(send);
      send({ op: "ping", at: Date.now() });
    };
    socket.onmessage = (event) => receive(JSON.parse(event.data));
    socket.onclose = ({ code }) => {
      if (code === 4401) return told({ level: "bad", words: "signed out" });
      told({ level: "warning", words: "reconnecting" });
      timer = setTimeout(open, BACKOFF[Math.min(failures++, BACKOFF.length - 1)] * (0.75 + Math.random() / 2));
    };
  }

  function receive(message) {
    last = Date.now();
    if (message.op === "pong") {
      const delay = Date.now() - message.at;
      if (message.sent) offset = Date.now() - delay / 2 - message.sent * 1000;
      return late(delay / 2);
    }
    // Clocks differ: the smallest difference seen so far stands for "no delay".
    if (message.sent) {
      const away = Date.now() - message.sent * 1000;
      offset = offset === null ? away : Math.min(offset, away);
      late(away - offset);
    }
    heard(message);
  }

  function late(milliseconds) {
    const behind = milliseconds > 2000;
    told(behind ? { level: "warning", words: `behind by ${Math.round(milliseconds / 1000)} s` } : { level: "live", words: "live" });
  }

  setInterval(() => {
    if (socket?.readyState !== WebSocket.OPEN) return;
    if (Date.now() - last > SILENCE) return socket.close();
    send({ op: "ping", at: Date.now() });
  }, PING);
  addEventListener("online", () => socket?.readyState === WebSocket.CLOSED && open());
  open();
  return { send };
}
