// A chat room: what one says, all hear, whichever replica they are connected to.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const http = createServer((request, response) => response.end("a chat room\n"));
const publisher = createClient({ url: process.env.REDIS_URL });
const subscriber = publisher.duplicate();
await Promise.all([publisher.connect(), subscriber.connect()]);
const io = new Server(http, {
  adapter: createAdapter(publisher, subscriber),
  transports: ["websocket"],
});
io.on("connection", (socket) => socket.on("say", (text) => io.emit("said", text)));
http.listen(process.env.PORT);
process.on("SIGTERM", () => io.close(() => process.exit(0)));
