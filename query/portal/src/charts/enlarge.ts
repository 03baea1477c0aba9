// Small images are shown larger, by their pixels.

const SMALL_PX = 200;

export function enlarge(event: Event): void {
  const image = event.currentTarget as HTMLImageElement;
  image.classList.toggle("enlarged", image.naturalWidth < SMALL_PX);
}
