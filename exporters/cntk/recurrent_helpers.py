"""The recurrent functions that a written file defines, as text; `recurrent` composes the same of primitives."""

from __future__ import annotations

__all__ = ["RECURRENT"]

RECURRENT = {
    "gates": '''def gates(y, units):
    """The parts of `y` with so many units each."""
    return [C.slice(y, 0, k, k + units) for k in range(0, y.shape[0], units)]
''',
    "unpack": '''def unpack(y, steps, name=""):
    """A sequence as a tensor, steps x units."""
    return C.reshape(C.sequence.unpack(y, 0.0, True), (steps,) + y.shape, name=name)
''',
    "lstm": '''def lstm(
    x,
    h,
    c,
    w,
    key,
    backwards=False,
    coupled=False,
    activations=(C.sigmoid, C.tanh, C.tanh),
    name=None,
):
    """A long short-term memory over the first axis of `x`: all hidden states and all cell states.

    It begins with the states `h` and `c`. Gates: input, output, forget, cell; `coupled` means
    that it forgets what it does not take in. Cell states go into gates where there is a P.
    """
    step = C.to_sequence(x)
    units = w[key + ".R"].shape[0]
    hidden, cell = C.placeholder(units), C.placeholder(units)
    before = C.sequence.future_value if backwards else C.sequence.past_value
    h, c = before(hidden, initial_state=h), before(cell, initial_state=c)
    y = complete(C.times(step, w[key + ".W"]), w.get(key + ".b")) + C.times(h, w[key + ".R"])
    i, o, f, z = gates(y, units)
    if key + ".P" in w:
        p_i, p_o, p_f = gates(w[key + ".P"], units)
        i, f = i + p_i * c, f + p_f * c
    i = activations[0](i)
    f = 1.0 - i if coupled else activations[0](f)
    new_c = f * c + i * activations[1](z)
    if key + ".P" in w:
        o = o + p_o * new_c
    new_h = activations[0](o) * activations[2](new_c)
    new_h.replace_placeholders({hidden: new_h.output, cell: new_c.output})
    steps = x.shape[0]
    return unpack(new_h, steps, key if name is None else name), unpack(new_c, steps)
''',
    "gru": '''def gru(
    x, h, w, key, backwards=False, reset_after=False, activations=(C.sigmoid, C.tanh), name=None
):
    """Gated recurrent units over the first axis of `x`: all hidden states, after the state `h`.

    Gates: update, reset, new; the reset gate works on the state or, `reset_after`, on its product.
    """
    step = C.to_sequence(x)
    units = w[key + ".R"].shape[0]
    hidden = C.placeholder(w[key + ".R"].shape[0])
    before = C.sequence.future_value if backwards else C.sequence.past_value
    h = before(hidden, initial_state=h)
    x_z, x_r, x_n = gates(complete(C.times(step, w[key + ".W"]), w.get(key + ".b")), units)
    h_z, h_r = gates(C.times(h, w[key + ".R"]), units)
    z, r = activations[0](x_z + h_z), activations[0](x_r + h_r)
    if reset_after:
        h_n = r * complete(C.times(h, w[key + ".Rn"]), w.get(key + ".bn"))
    else:
        h_n = C.times(r * h, w[key + ".Rn"])
    new_h = (1.0 - z) * activations[1](x_n + h_n) + z * h
    new_h.replace_placeholders({hidden: new_h.output})
    return unpack(new_h, x.shape[0], key if name is None else name)
''',
    "rnn": '''def rnn(x, h, w, key, backwards=False, activation=C.tanh, name=None):
    """A recurrent layer over the first axis of `x`: all hidden states, after the state `h`."""
    step = C.to_sequence(x)
    hidden = C.placeholder(w[key + ".R"].shape[0])
    before = C.sequence.future_value if backwards else C.sequence.past_value
    h = before(hidden, initial_state=h)
    y = complete(C.times(step, w[key + ".W"]), w.get(key + ".b"))
    new_h = activation(y + C.times(h, w[key + ".R"]))
    new_h.replace_placeholders({hidden: new_h.output})
    return unpack(new_h, x.shape[0], key if name is None else name)
''',
}
