function render({ model, el }) {
  const button = document.createElement("button");
  const label = text => { button.textContent = text; };
  let recorder = null;
  label("Record");
  button.onclick = async () => {
    if (recorder) { recorder.stop(); return; }
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
      const pieces = [];
      recorder = new MediaRecorder(stream);
      recorder.ondataavailable = event => pieces.push(event.data);
      recorder.onstop = async () => {
        stream.getTracks().forEach(track => track.stop());
        recorder = null;
        label("Record");
        const context = new AudioContext({ sampleRate: model.get("sampling_rate") });  // decoding resamples to it
        try {
          const sound = await context.decodeAudioData(await new Blob(pieces).arrayBuffer());
          model.set("samples", new DataView(sound.getChannelData(0).slice().buffer));
          model.save_changes();
        } catch (error) { label(`Nothing recorded (${error.message}); again?`); }
        context.close();
      };
      recorder.start();
      label("Stop");
    } catch (error) { label(`No microphone: ${error.message}`); }
  };
  el.appendChild(button);
}
export default { render };
