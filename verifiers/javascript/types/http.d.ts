/** The service did not answer, or not with 200. */
export class RequestFailed extends Error {
    /**
     * @param {string} message
     * @param {number} [retryAfter]
     */
    constructor(message: string, retryAfter?: number);
    retryAfter: number;
}
/** Address of the service, and the credentials of this client. */
export class Service {
    /**
     * @param {string} url
     * @param {string} clientId
     * @param {string} clientSecret
     */
    constructor(url: string, clientId: string, clientSecret: string);
    /**
     * Sends a GET, or a POST of a form, and returns the JSON of the reply.
     *
     * The head has to arrive within `headTimeout` seconds, the whole reply within `timeout`.
     *
     * @param {string} path
     * @param {{ timeout: number, headTimeout?: number, withCredentials?: boolean,
     *   form?: URLSearchParams, signal?: AbortSignal, parse?: (pieces: string[]) => any }} options
     * @returns {Promise<{ headers: Headers, body: any }>}
     * @throws {RequestFailed}
     */
    request(path: string, options: {
        timeout: number;
        headTimeout?: number;
        withCredentials?: boolean;
        form?: URLSearchParams;
        signal?: AbortSignal;
        parse?: (pieces: string[]) => any;
    }): Promise<{
        headers: Headers;
        body: any;
    }>;
    #private;
}
