// Replay a timeline with jose under a simulated clock: a verifier for each second loads the JWK Set then, and verifies
// the newest token of every later second. Reads [[JWK Set, token] of each second], prints {first second: [refused ones]}.
import { readFileSync } from "node:fs";
import { createRemoteJWKSet, customFetch, jwtVerify } from "jose";

const timeline = JSON.parse(readFileSync(0, "utf8"));
let second;
Date.now = () => second * 1000;
const load = async () => new Response(timeline[second][0]);

const refusals = {};
for (const first of timeline.keys()) {
  const keys = createRemoteJWKSet(new URL("http://gatehouse.test/.well-known/jwks.json"), { [customFetch]: load });
  for (second = first; second < timeline.length; second++) {
    await jwtVerify(timeline[second][1], keys).catch((error) => {
      if (error.code !== "ERR_JWKS_NO_MATCHING_KEY") throw error;
      (refusals[first] ??= []).push(second);
    });
  }
}
console.log(JSON.stringify(refusals));
