"""Simulated physics: microstructures and spins."""

import io
from zipfile import ZipFile

import numpy as np

from tasks.pocket.common import decode, shrink
from tasks.sources.built import Built, Pool
from tasks.sources.wheels import WHEELS
from tasks.splits import ADAPT, TEST, TRAIN, VAL, by_class
from tasks.task import TASKS, Task

RUNS = [TRAIN] * 12 + [ADAPT, VAL, VAL] + [TEST] * 3  # split of each simulated run


def microstructure() -> Pool:
    """Cahn-Hilliard phase separation, labelled by quintile of the energy; a run has one split."""
    images, energies, runs = [], [], []
    wheel = WHEELS["mdsdata"]
    for run in range(len(RUNS)):
        pictures = ZipFile(io.BytesIO(wheel.member(f"MDS3_CahnHilliard/data/images_{run}.zip")))
        table = wheel.member(f"MDS3_CahnHilliard/data/labels_{run}.csv").decode().split()
        for line in table[1::3]:  # every third frame: neighbours look alike
            file, energy = line.split(",")[:2]
            images.append(decode(pictures.read(file), "L"))
            energies.append(float(energy))
            runs.append(run)
    labels = np.digitize(energies, np.percentile(energies, [20, 40, 60, 80]))
    return Pool(shrink(images), labels, np.array(RUNS, np.int8)[runs])


def ising() -> Pool:
    """Spins of the two-dimensional Ising model, below and above the critical temperature."""
    wheel = WHEELS["mdsdata"]
    pictures = ZipFile(io.BytesIO(wheel.member("MDS2_Ising_model/images_64.zip")))
    rows = wheel.member("MDS2_Ising_model/labels_64.csv").decode().split()[1:]
    table = [row.split(",") for row in rows]
    images = [decode(pictures.read(row[0]), "L") for row in table]
    labels = np.array([int(float(row[2])) for row in table])
    return Pool(shrink(images), labels, by_class(labels, key="ising"))


TASKS.add(
    "microstructure",
    Task(
        name="microstructure",
        title="Microstructure",
        kind="simulation",
        noun="a simulated microstructure",
        classes=("very low", "low", "medium", "high", "very high"),
        template="a simulated microstructure of {} energy",
        sizes=(3971, 332, 500, 664),
        reserved=332,
        pixels="d06a4f33b9a04e69",
        source=Built(microstructure, wheels=("mdsdata",)),
        version=2,
    ),
)
TASKS.add(
    "ising",
    Task(
        name="ising",
        title="Ising",
        kind="simulation",
        noun="a picture of spins",
        classes=("below", "above"),
        template="a picture of spins {} the critical temperature",
        sizes=(3000, 500, 500, 667),
        reserved=333,
        pixels="b11db369c17a6edb",
        source=Built(ising, wheels=("mdsdata",)),
        version=2,
    ),
)
