"""Where the phantom's organs lie: shapes in the patient's millimetres (RAS+), varied from patient to patient.

x grows towards the patient's right, y to the front, z to the head; the origin is in the middle of the body at the level
of the upper lumbar spine. Small organs are drawn more generously than nature does, so that slices of a few millimetres
show them.
"""

from __future__ import annotations

import numpy as np

from swin_umamba.data.phantom_shapes import Difference, Ellipsoid, Shape, Tube, Union, rotation_matrix

WALL = 17.0
"""Thickness in mm of skin, fat and muscle around the abdominal cavity."""


class Anatomy:
    """One patient's organs.

    Args:
        rng: source of randomness; the same state gives the same patient.

    Attributes:
        organs: AbdomenMRI organ name -> shape, in the order in which they are painted.
        spine: vertebral column, `canal` inside it, `muscles` beside it.
        bowel: unlabelled loops that look like duodenum and gallbladder.
        body: outline of the body.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.body = Ellipsoid(
            centre=np.array([0.0, 0.0, 0.0]),
            radii=np.array([self._vary(147, 0.04), self._vary(106, 0.05), 2000.0]),
            rotation=np.eye(3),
            power=2.5,
        )
        self.spine, self.canal, self.muscles = self._spine()
        kidneys = {side: self._kidney(side) for side in (1, -1)}
        self._stomach_knots = self._moved([[-62, -2, 82], [-68, 22, 55], [-60, 46, 24], [-34, 60, 2], [-4, 58, -8]], 5)
        vena_cava, aorta = self._vessels()
        pancreas, duodenum = self._pancreas_and_duodenum()
        self.organs: dict[str, Shape] = {
            "liver": self._liver(),
            "spleen": self._spleen(),
            "stomach": Tube(
                knots=self._stomach_knots, radii=self._radii([27, 31, 26, 20, 13]), stretch=(1.0, 0.95, 1.0)
            ),
            "right kidney": kidneys[1],
            "left kidney": kidneys[-1],
            "pancreas": pancreas,
            "duodenum": duodenum,
            "inferior vena cava": vena_cava,
            "aorta": aorta,
            "gallbladder": self._gallbladder(),
            "esophagus": self._esophagus(),
            "right adrenal gland": self._adrenal(1),
            "left adrenal gland": self._adrenal(-1),
        }
        self.bowel = self._bowel()

    def _vary(self, value: float, share: float = 0.1) -> float:
        return value * float(np.exp(self._rng.normal(0, share)))

    def _radii(self, values: list[float], share: float = 0.1) -> np.ndarray:
        common = self._vary(1.0, share)
        return np.array([common * self._vary(value, 0.05) for value in values])

    def _moved(self, points: list[list[float]], whole: float, each: float = 2.5) -> np.ndarray:
        """Return points shifted together by about `whole` mm and one by one by about `each` mm."""
        shift = self._rng.normal(0, whole, 3).clip(-2 * whole, 2 * whole)
        return np.array(points, float) + shift + self._rng.normal(0, each, (len(points), 3)).clip(-2 * each, 2 * each)

    def _turned(self, x: float, y: float, z: float, spread: float = 8) -> np.ndarray:
        return rotation_matrix(*(np.array([x, y, z]) + self._rng.normal(0, spread, 3)))

    def _spine(self) -> tuple[Shape, Shape, list[Shape]]:
        """Return the vertebral column, its canal, and the muscles beside it."""
        column = Tube(
            knots=np.array([[0, -48, -220], [0, -46, 0], [0, -52, 240]]), radii=np.full(3, 19.0), stretch=(1.1, 0.9, 1)
        )
        canal = Tube(knots=np.array([[0, -73, -220], [0, -71, 0], [0, -77, 240]]), radii=np.full(3, 8.0))
        muscles: list[Shape] = []
        for side in (1, -1):
            line = np.array([[side * 36, -78, -220], [side * 36, -78, 0], [side * 34, -80, 240]], float)
            muscles.append(Tube(knots=line, radii=np.full(3, 14.0), stretch=(1.5, 0.9, 1)))
            psoas = np.array([[side * 24, -48, 15], [side * 34, -50, -50], [side * 42, -46, -160]], float)
            muscles.append(Tube(knots=psoas, radii=np.array([5.0, 12, 17])))
        return column, canal, muscles

    def _liver(self) -> Shape:
        """Return a big right lobe and a flat left one in front of the stomach."""
        size = self._vary(1.0, 0.06)
        lobes = [([74.0, 2, 36], [50.0, 70, 66], 2.6), ([14.0, 46, 52], [64.0, 28, 32], 2.2)]
        parts = []
        for (centre, radii, power), turn in zip(lobes, [(0, 8, 0), (0, -14, 12)], strict=True):
            parts.append(
                Ellipsoid(
                    centre=self._moved([centre], 5)[0],
                    radii=size * self._radii(radii, 0.05),
                    rotation=self._turned(*turn, spread=5),
                    power=power,
                )
            )
        return Union(parts, blend=25)

    def _spleen(self) -> Shape:
        return Ellipsoid(
            centre=self._moved([[-101, -30, 48]], 6)[0],
            radii=self._radii([19, 36, 40], 0.12),
            rotation=self._turned(-20, 0, -28),
            power=2.3,
            bend=(12, 0),
        )

    def _kidney(self, side: int) -> Shape:
        """Return a bean with its notch towards the spine; `side` is 1 for right, -1 for left."""
        centre = self._moved([[side * 70, -42, -28 if side > 0 else -14]], 5)[0]
        radii = self._radii([24, 26, 50], 0.08)
        turn = self._turned(-8, side * -12, side * -25, spread=6)
        bean = Ellipsoid(centre=centre, radii=radii, rotation=turn, power=2.2, bend=(-side * 8.0, 0))
        # the upper pole carries the adrenal gland
        self._poles = getattr(self, "_poles", {}) | {side: centre + turn @ np.array([-side * 8.0, 0, radii[2]])}
        notch = Ellipsoid(
            centre=centre + turn @ np.array([-side * 26.0, 2, 0]), radii=np.array([15.0, 9, 15]), rotation=turn
        )
        return Difference(bean, notch)

    def _adrenal(self, side: int) -> Shape:
        """Return two thin limbs that meet in front, medial to and above the kidney's upper pole."""
        apex = self._poles[side] + np.array([-side * 18, 20, -2]) + self._rng.normal(0, 2, 3)
        apex[0] = side * max(side * apex[0], 33)
        width, length, height = self._radii([8.5, 17, 23], 0.08)
        limbs = []
        for spread in (-1, 1):
            angle = np.deg2rad((26 if side > 0 else 34) * spread + self._rng.normal(0, 5) + side * 14)
            centre = apex + 0.75 * length * np.array([np.sin(angle), -np.cos(angle), 0])
            # the limb's second axis points from the apex backwards
            turn = rotation_matrix(0, 0, float(np.rad2deg(angle)))
            limbs.append(Ellipsoid(centre=centre, radii=np.array([width, length, height]), rotation=turn, power=3.0))
        return Union(limbs, blend=3)

    def _vessels(self) -> tuple[Shape, Shape]:
        """Return the inferior vena cava, which bends forward into the liver, and the aorta in front of the spine."""
        cava = self._moved(
            [[22, -16, -230], [22, -16, -80], [22, -15, 0], [25, -8, 55], [22, 8, 88], [12, 14, 106]], 2, 1
        )
        aorta = self._moved([[-11, -18, -230], [-12, -18, -80], [-12, -17, 0], [-13, -20, 60], [-15, -26, 240]], 2, 1)
        return (
            Tube(knots=cava, radii=self._radii([11] * 6), stretch=(1.25, 0.85, 1)),
            Tube(knots=aorta, radii=self._radii([10.5] * 5)),
        )

    def _pancreas_and_duodenum(self) -> tuple[Shape, Shape]:
        """Return the pancreas from the duodenal loop to the spleen, and the loop around its head."""
        shift = self._rng.normal(0, 4, 3)
        body = self._moved([[36, 16, -32], [30, 20, -14], [6, 26, 2], [-24, 20, 14], [-54, 2, 24], [-76, -8, 30]], 1)
        loop = self._moved([[20, 46, -2], [46, 36, 2], [60, 22, -16], [60, 14, -42], [40, 12, -64], [6, 10, -66]], 1)
        # its first knot is the pylorus, where the stomach ends
        loop[0] = 0.5 * (loop[0] + self._stomach_knots[-1] + np.array([20, -4, 4]))
        return (
            Tube(knots=body + shift, radii=self._radii([13, 15, 13, 13, 13, 10]), stretch=(1, 1, 1.15)),
            Tube(knots=loop + shift, radii=self._radii([13, 14, 14, 14, 14, 13])),
        )

    def _gallbladder(self) -> Shape:
        """Return a pear under the liver, its thick end in front and below."""
        knots = self._moved([[50, 34, 12], [60, 52, -6], [66, 62, -24]], 5)
        return Tube(knots=knots, radii=self._radii([10, 15, 18], 0.12))

    def _esophagus(self) -> Shape:
        """Return the tube in front of the aorta that enters the stomach."""
        knots = self._moved([[-4, -1, 230], [-6, 2, 120], [-14, 6, 94], [-30, 8, 76]], 3, 1.5)
        return Tube(knots=knots, radii=self._radii([12.5, 12.5, 12, 12]), stretch=(1.1, 0.95, 1))

    def _bowel(self) -> list[Shape]:
        """Return colon on both flanks and across, and a few loops of small bowel in the lower abdomen."""
        right, left = self._rng.normal(0, 6, 2)
        across = self._rng.uniform(-75, -45)
        colon = [
            [[96 + right, -6, -220], [98 + right, 0, -110], [92 + right, 20, -60]],
            [[92 + right, 40, across - 14], [40, 72, across], [-40, 74, across], [-92 + left, 36, -30]],
            [[-104 + left, 0, 0], [-104 + left, -14, -50], [-98 + left, -14, -220]],
        ]
        loops: list[Shape] = [
            Tube(knots=self._moved(line, 5, 5), radii=self._radii([17] * len(line))) for line in colon
        ]
        for _ in range(self._rng.integers(2, 5)):
            start = self._rng.uniform([-75, 15, -110], [70, 70, -45])
            steps = np.cumsum(self._rng.normal(0, 16, (4, 3)) * [1, 0.7, 0.6], axis=0)
            loops.append(Tube(knots=start + steps, radii=self._radii([self._rng.uniform(9, 14)] * 4)))
        return loops
