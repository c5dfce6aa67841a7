"""What the chart's tests stand on: Helm, `render()`, the objects it gives, and the rules that every object keeps."""
