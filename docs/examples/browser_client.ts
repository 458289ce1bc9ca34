// A client of Gatehouse for browsers: all tabs share one session and refresh it once (docs/browsers.md).
//
//     const accounts = new Gatehouse("https://accounts.example.com/api/v1", { cookies: true });
//     await accounts.login("alice-liddell", "correct horse battery");
//     const me = await accounts.send("GET", "/users/");

const KEY = "gatehouse"; // the name of the database, the lock and the channel that all tabs of an origin share
const ENDED = ["invalid_token", "missing_token"]; // other refusals with 401 are about the request, not the access token

type Stored = { access_token?: string; refresh_token?: string; csrf?: string; turn?: string };
// IndexedDB, not localStorage: another tab may read localStorage before it sees what the last holder of the lock wrote.
const store = <T>(act: (values: IDBObjectStore) => IDBRequest<T>) => new Promise<T>((resolve, reject) => {
  const opening = indexedDB.open(KEY, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(KEY);
  opening.onerror = () => reject(opening.error);
  opening.onsuccess = () => {
    const transaction = opening.result.transaction(KEY, "readwrite");
    const request = act(transaction.objectStore(KEY));
    transaction.oncomplete = () => { opening.result.close(); resolve(request.result); };
    transaction.onabort = () => { opening.result.close(); reject(transaction.error); };
  };
});
const load = async (): Promise<Stored> => (await store((values) => values.get(KEY))) ?? {};
const save = (stored: Stored) => store((values) => values.put(stored, KEY));
const channel = new BroadcastChannel(KEY);
const forget = async () => { await store((values) => values.delete(KEY)); channel.postMessage("logout"); };
const locked = <T>(act: () => Promise<T>): Promise<T> => navigator.locks.request(KEY, act) as Promise<T>;

export class Refused extends Error {
  constructor(
    readonly status: number, readonly type: string, message: string, readonly fields: unknown,
    readonly retryAfter: number, // in seconds; 0 if the answer names no time
  ) { super(message); }
}

export class Gatehouse {
  constructor(private readonly api: string, private readonly options: { cookies?: boolean } = {}) {}

  login = (username: string, password: string) => locked(() => this.open("/login", { username, password }));
  signUp = (account: object) => locked(() => this.open("/users/", account));

  /** Send a request and return `data`. If the access token has ended, refresh and repeat the request once. */
  async send(method: string, path: string, body?: object): Promise<any> {
    const { turn, access_token } = await load();
    try {
      return await this.call(method, path, body, access_token);
    } catch (error) {
      if (!(error instanceof Refused) || !ENDED.includes(error.type)) throw error;
      if (!(await locked(() => this.refresh(turn)))) throw error;
      return this.call(method, path, body, (await load()).access_token);
    }
  }

  /** End the session of all tabs. If this fails without an answer, the session is still open. */
  logout = (everywhere = false) => locked(async () => {
    await this.call("POST", "/logout", { everywhere }, (await load()).access_token).catch(unless401);
    await forget();
  });

  /** Call `listener` when another tab has logged out, or found that the session is over. */
  onLogout(listener: () => void): void {
    channel.addEventListener("message", listener);
  }

  /** Return true if there is another access token than that of `turn`, whichever tab refreshed it. */
  private async refresh(turn?: string): Promise<boolean> {
    const stored = await load();
    if (stored.turn !== turn) return stored.turn !== undefined;
    if (turn) await this.open("/refresh", undefined, stored.refresh_token).catch(unless401);
    const isOver = (await load()).turn === turn;
    if (isOver && turn) await forget();
    return !isOver;
  }

  private async open(path: string, body?: object, token?: string): Promise<any> {
    const { access_token, refresh_token, ...data } = await this.call("POST", path, body, token);
    const stored = await load();
    const tokens = { access_token, refresh_token: refresh_token ?? stored.refresh_token };
    await save({ ...stored, ...tokens, turn: crypto.randomUUID() });
    return data;
  }

  private async call(method: string, path: string, body?: object, token?: string): Promise<any> {
    const headers: Record<string, string> = body ? { "Content-Type": "application/json" } : {};
    if (token) headers["Authorization"] = `Bearer ${token}`;
    if (this.options.cookies && method !== "GET") headers["X-CSRF-Token"] = (await load()).csrf ?? "";
    const credentials = this.options.cookies ? "include" : "omit";
    const signal = AbortSignal.timeout(30_000); // a request that hangs must not keep the lock from the other tabs
    const init = { method, headers, credentials, signal, body: body ? JSON.stringify(body) : null } as const;
    const response = await fetch(this.api + path, init);
    const csrf = response.headers.get("X-CSRF-Token");
    const wait = Number(response.headers.get("Retry-After"));
    if (csrf) await save({ turn: csrf, ...(await load()), csrf });
    const { data, error, message } = await response.json();
    if (error) throw new Refused(response.status, error.type, message, error.fields, wait);
    return data;
  }
}

function unless401(error: unknown): void {
  if (!(error instanceof Refused && error.status === 401)) throw error;
}
