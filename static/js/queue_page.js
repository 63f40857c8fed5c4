/** The queue's page: the line is drawn again whenever a run's news arrives, and now and then besides. */
import { showConnection } from "./connection.js";
import { partView } from "./part_view.js";
import { connect } from "./socket.js";

const EVERY = 5000;
const line = partView(document.querySelector("[data-queue]"));
setInterval(line.refresh, EVERY);
connect(document.body.dataset.socket, {
  watches: () => [{ op: "watch", topic: "runs" }],
  heard: (message) => ["run", "gap"].includes(message.op) && line.refresh(),
  told: showConnection,
});
