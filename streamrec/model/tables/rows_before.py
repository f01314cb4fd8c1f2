"""The latest rows of users before their events."""

from __future__ import annotations

import numpy as np

from streamrec.model.compiled import compiled


@compiled
def rows_before(ends: np.ndarray, rows: np.ndarray, new: np.ndarray, most: int) -> np.ndarray:
    """Return the latest distinct rows before each new event, newest first, without its own, 0 for padding, `(n, most)`.

    Parameters
    ----------
    ends
        End of each user's events, `(B,)`.
    rows
        The events of all users, oldest first; 0 for items without a row, `(E,)`.
    new
        Indices of the new events, ascending, `(n,)`.
    """
    before = np.zeros((len(new), most), np.int64)
    user, begin = 0, 0
    for number in range(len(new)):
        while ends[user] <= new[number]:
            begin = ends[user]
            user += 1
        count = 0
        for index in range(new[number] - 1, begin - 1, -1):
            row = rows[index]
            if count == most:
                break
            if row == 0 or row == rows[new[number]] or (before[number, :count] == row).any():
                continue
            before[number, count] = row
            count += 1
    return before
