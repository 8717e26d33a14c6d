export const WIDE = { width: 1280, height: 800 };
export const NARROW = { width: 390, height: 844 };
