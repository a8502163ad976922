// Two visitors: the second hears what the first says. Usage: client.js URL [REJECT=0]
import { io } from "socket.io-client";

const open = () =>
  io(process.argv[2], { transports: ["websocket"], rejectUnauthorized: false });
const [speaker, listener] = [open(), open()];
const timer = setTimeout(() => {
  console.error("nothing was heard");
  process.exit(1);
}, 15000);
listener.on("said", (text) => {
  console.log(`heard ${text}`);
  clearTimeout(timer);
  speaker.close();
  listener.close();
});
listener.on("connect", () => {
  if (speaker.connected) speaker.emit("say", "bonjour");
  else speaker.on("connect", () => speaker.emit("say", "bonjour"));
});
