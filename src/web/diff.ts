export interface Piece {
  text: string;
  isOwn: boolean;
}

const kWordsMax = 800; // of both texts; the table below has as many cells as their product

/** The words of two texts, each with whether it is in one of them alone: their longest common subsequence is in both. */
export function compareWords(left: string, right: string): [Piece[], Piece[]] {
  const a = left.split(/(?<=\s)/);
  const b = right.split(/(?<=\s)/);
  if (a.length > kWordsMax || b.length > kWordsMax) return [[{ text: left, isOwn: false }], [{ text: right, isOwn: false }]];
  const width = b.length + 1;
  // lengths[i * width + j]: of the longest common subsequence of what begins at a[i] and at b[j].
  const lengths = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const at = i * width + j;
      lengths[at] = a[i] === b[j] ? lengths[at + width + 1]! + 1 : Math.max(lengths[at + width]!, lengths[at + 1]!);
    }
  }
  const leftPieces: Piece[] = [];
  const rightPieces: Piece[] = [];
  const add = (pieces: Piece[], text: string, isOwn: boolean) => {
    const last = pieces.at(-1);
    if (last?.isOwn === isOwn) last.text += text;
    else pieces.push({ text, isOwn });
  };
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    const at = i * width + j;
    if (i < a.length && j < b.length && a[i] === b[j]) {
      add(leftPieces, a[i++]!, false);
      add(rightPieces, b[j++]!, false);
    } else if (j === b.length || (i < a.length && lengths[at + width]! >= lengths[at + 1]!)) {
      add(leftPieces, a[i++]!, true);
    } else {
      add(rightPieces, b[j++]!, true);
    }
  }
  return [leftPieces, rightPieces];
}
