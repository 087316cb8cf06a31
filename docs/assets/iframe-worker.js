// From a folder a browser starts no workers: the site's search then runs in a hidden frame of the same page.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.frame = frame.contentWindow;
      this.frame.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.frame.importScripts = () => {};
      const script = this.frame.document.createElement("script");
      script.src = url;
      this.isReady = new Promise((ready) => (script.onload = ready));
      this.frame.document.body.append(script);
    }

    postMessage(data) {
      this.isReady.then(() => this.frame.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.frameElement.remove();
    }
  };
}
