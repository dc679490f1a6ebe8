// What a call of this client can end in, besides its result.

export class CallError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = this.constructor.name;
  }
}

export class InvalidInputError extends CallError {}
export class LossFailedError extends CallError {}
export class NoGradientError extends CallError {}
export class NotScalarError extends CallError {}
export class BadOutputError extends CallError {}
export class RequestFailedError extends CallError {}
export class ConnectionError extends CallError {}
export class CancelledError extends CallError {}

export class HttpStatusError extends CallError {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}
