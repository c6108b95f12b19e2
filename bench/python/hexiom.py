"""Hexiom: hexagonal boards whose tiles say how many neighbours they have, put together again by search."""
import sys

DIRECTIONS = ((1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1))
EMPTY = -1


class Board:
    """A hexagon of cells, with the neighbours of each."""

    def __init__(self, side):
        reach = side - 1
        places = [(q, r) for r in range(-reach, side) for q in range(-reach, side) if abs(q + r) <= reach]
        number = {place: i for i, place in enumerate(places)}
        self.neighbours = [
            [number[q + dq, r + dr] for dq, dr in DIRECTIONS if (q + dq, r + dr) in number] for q, r in places
        ]
        self.size = len(places)


class Numbers:
    """A small generator, the same everywhere."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.state >> 8) % n


class Puzzle:
    """A board, and how many tiles of each number are to be put on it."""

    def __init__(self, board, tiles):
        self.board = board
        self.left = [0] * 8
        for tile in tiles:
            self.left[tile] += 1
        self.left[EMPTY] = board.size - len(tiles)
        self.cells = [None] * board.size
        self.filled = [0] * board.size
        self.open = [len(near) for near in board.neighbours]
        self.steps = 0

    def fits(self, cell, tile):
        """Whether a tile can be at a cell, as far as its neighbours are known."""
        if tile != EMPTY and not self.filled[cell] <= tile <= self.filled[cell] + self.open[cell]:
            return False
        more = tile != EMPTY
        for near in self.board.neighbours[cell]:
            other = self.cells[near]
            if other is None or other == EMPTY:
                continue
            filled = self.filled[near] + more
            if filled > other or filled + self.open[near] - 1 < other:
                return False
        return True

    def put(self, cell, tile, by):
        more = by if tile != EMPTY else 0
        for near in self.board.neighbours[cell]:
            self.open[near] -= by
            self.filled[near] += more
        self.left[tile] -= by
        self.cells[cell] = tile if by == 1 else None

    def solve(self, cell, limit):
        """Whether the cells from this one on can be filled; None: not within so many steps."""
        if cell == self.board.size:
            return True
        for tile in (6, 5, 4, 3, 2, 1, 0, EMPTY):
            if self.left[tile] == 0 or not self.fits(cell, tile):
                continue
            self.steps += 1
            if self.steps > limit:
                return None
            self.put(cell, tile, 1)
            found = self.solve(cell + 1, limit)
            if found is not False:
                return found
            self.put(cell, tile, -1)
        return False


def make(board, numbers, share):
    """The tiles of a random board."""
    taken = [numbers.below(100) < share for _ in range(board.size)]
    return [sum(taken[near] for near in board.neighbours[cell]) for cell in range(board.size) if taken[cell]]


def text(cells):
    return "".join("." if tile == EMPTY else "?" if tile is None else str(tile) for tile in cells)


def main(rounds):
    numbers = Numbers(42)
    board = Board(4)
    solved = steps = 0
    check = 0
    for i in range(rounds):
        puzzle = Puzzle(board, make(board, numbers, 35 + i % 5 * 10))
        found = puzzle.solve(0, 4000)
        solved += found is True
        steps += puzzle.steps
        for char in text(puzzle.cells):
            check = (check * 31 + ord(char)) & 0xFFFFFFFF
    print(rounds, solved, steps, check)


main(int(sys.argv[1]) if len(sys.argv) > 1 else 1300)
