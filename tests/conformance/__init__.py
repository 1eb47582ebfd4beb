"""ONNX's own operator cases through every exporter: what is not refused must be right."""
