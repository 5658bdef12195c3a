// Requests to the server. What goes wrong is an ApiError whose message is a sentence to show.

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;  // 0: no answer; 409: something else changed it, look again
  }
}

const GONE = "The server does not answer. Is prospect still running in its terminal? Nothing on this page is lost.";

export async function get(path) {
  return answered(path, {});
}

export async function post(path, value = {}) {
  return answered(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(value)});
}

// Send a file as it is; `told(share)` hears how far it is, from 0 to 1. Gives {done: promise, stop()}.
export function upload(path, file, told = () => {}) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.open("POST", path);
    request.upload.onprogress = event => told(event.lengthComputable ? event.loaded / event.total : 0);
    request.onload = () => {
      const value = parsed(request.responseText);
      if (request.status < 300) resolve(value);
      else reject(new ApiError(value.error ?? `The server answered ${request.status}.`, request.status));
    };
    request.onerror = () => reject(new ApiError(`${file.name}: the upload broke off; nothing was kept.`, 0));
    request.onabort = () => reject(new ApiError(`${file.name}: the upload was stopped; nothing was kept.`, 0));
    request.send(file);
  });
  return {done, stop: () => request.abort()};
}

async function answered(path, options) {
  let response, text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch {
    throw new ApiError(GONE, 0);
  }
  const value = parsed(text);
  if (!response.ok) throw new ApiError(value.error ?? (text.trim() || `The server answered ${response.status}.`), response.status);
  return value;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
