// Reads what monitor/page/frame.py writes: a JSON head, then byte planes of step differences and of float32 values.

export function decode(buffer) {
  const view = new DataView(buffer);
  const length = view.getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const count = head.curves.reduce((sum, curve) => sum + curve.points, 0);
  const differences = new Uint32Array(joined(buffer, 4 + length, count));
  const numbers = new Float32Array(joined(buffer, 4 + length + 4 * count, count));
  let at = 0;
  for (const curve of head.curves) {
    let step = 0;
    curve.steps = Array.from(differences.subarray(at, at + curve.points), (difference) => (step += difference));
    curve.values = Array.from(numbers.subarray(at, at + curve.points));
    at += curve.points;
  }
  return head;
}

function joined(buffer, offset, count) {
  const planes = new Uint8Array(buffer, offset, 4 * count);
  const bytes = new Uint8Array(4 * count);
  for (let plane = 0; plane < 4; plane++) {
    for (let number = 0; number < count; number++) bytes[4 * number + plane] = planes[plane * count + number];
  }
  return bytes.buffer;
}
