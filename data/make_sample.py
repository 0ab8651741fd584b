"""Draws data/sample.csv: synthetic classes with the columns, zeros, scale and profiles of the published table.

    python data/make_sample.py        # writes sample.csv beside this script, always the same bytes

The sample contains no row of the published table. The script holds statistics computed from that table (Stains et al.
2018, doi:10.1126/science.aap8892; data doi:10.7910/DVN/48MMF9): for each profile and code how often the code occurs,
and the mean and standard deviation of its percentage where it does; how many classes an instructor has; the
proportions of disciplines, levels and so on.

Each instructor has a home profile and, for each code, a habit. A class follows the home profile or draws a profile of
its own; a code occurs by the instructor's habit or by chance; a code that occurs is marked in k of the class's n
two-minute intervals. Both alternatives are always drawn from the same distribution, so the sample has the rates of the
published table whatever their weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

N_CLASSES = 2000
SEED = 2018
WITHOUT_ID = 0.14  # share of rows without an instructor ID
KEEPS_PROFILE = 0.6  # two classes of one instructor then share the profile as often as in the published table
KEEPS_HABIT = 0.3

STYLES = ("Mostly lecture",) * 2 + ("Transitioning",) * 2 + ("High engagement",) * 3  # of the profiles 1 to 7
PROFILE_SHARES = (0.3750, 0.1758, 0.1335, 0.1360, 0.0423, 0.0782, 0.0593)

# Per code, for the profiles 1 to 7: classes in which it occurs, in ‰; where it occurs, mean and standard
# deviation of its percentage of intervals.
TABLE = """
L          993 96.4  9.8| 986 95.2  7.7| 996 82.7 21.9|1000 86.7 15.1| 976 67.7 19.8| 987 61.2 29.5| 992 74.2 20.7
Ind        174 12.1 15.1| 482 15.4 12.4| 313 17.7 18.4| 535 18.4 13.0| 682 26.1 19.9| 344 33.3 27.0| 529 20.8 18.1
CG           0  0.0  0.0| 771 17.5 11.1|  11  2.8  0.2| 886 25.6 19.9| 612 14.0  8.3|   6  2.0  0.0| 613 28.7 19.2
WG           0  0.0  0.0|   0  0.0  0.0|  11  2.6  0.2|   7  1.6  0.3| 800 27.5 19.5| 943 42.6 28.6| 731 20.3 17.7
OG           0  0.0  0.0|   0  0.0  0.0| 806 26.4 24.8| 703 13.9 10.2|  24  3.1  0.2|  76  3.9  1.0| 790 19.6 18.8
S_Anq      725 26.1 20.3| 807 21.5 16.5| 918 29.0 19.0| 934 30.0 17.5| 835 19.6 12.5| 815 24.1 17.5| 933 33.0 19.1
SQ         653 14.8 11.5| 694 12.8  9.4| 784 18.3 14.0| 645 13.8  9.3| 718 11.2  7.3| 707 15.5 13.9| 731 20.2 15.9
WC          56 17.4 20.4|  57 12.4 15.4| 157 14.7 18.0| 172 10.3  9.0| 259 20.9 20.9| 121 14.1 15.6| 235 13.0 11.6
PRD         28  7.2  6.4|  17  7.5  4.2|  30  5.7  5.5|  84  7.9  7.4| 188 13.1 12.2|  32 26.1 33.7|  59  8.4  3.6
SP          44 44.8 33.5|   8  3.9  1.3| 112 18.9 14.3|  22 14.6 14.0|  59 15.2 11.2|  89 31.8 24.5| 101 11.2  5.9
TQ          32 24.4 15.3|  23 23.6 10.6|  86 16.5 11.4|  15 17.3 10.6|  24 46.0  6.0|  83 17.5 11.1|  34 16.1 10.4
S_W        266  7.1  5.4| 306  6.4  5.5| 354  6.8  4.7| 355  5.6  3.2| 294  6.0  3.8| 389  6.9  5.9| 244  7.9  7.5
S_O        228  7.2  7.6| 144  6.6  4.7| 250  7.7  5.9| 201  7.2  5.1| 153  7.5  8.4| 242 12.1 18.2| 303  6.9  5.5
Lec        988 89.8 17.2|1000 84.4 14.8| 966 69.4 25.6| 985 63.5 29.5| 965 51.7 21.4| 917 53.4 29.6| 975 58.0 25.2
RTW        756 61.9 33.2| 592 46.8 26.8| 776 49.8 31.5| 645 31.5 25.5| 565 35.4 25.5| 707 42.2 26.3| 739 35.3 25.8
FUP        231 17.7 20.1| 856 19.0 12.7| 657 22.8 20.0| 949 35.6 19.9| 871 25.9 15.3| 541 17.7 16.1| 899 30.9 18.5
T_PQ       780 28.6 21.3| 839 24.2 17.5| 955 33.5 21.1| 967 31.0 19.4| 988 21.4 13.7| 803 29.1 19.5| 950 36.6 22.7
CQ           0  0.0  0.0|1000 20.4 13.8|  11  2.8  0.2|1000 30.6 19.7|1000 22.0 13.2|  13  1.6  0.3| 765 29.1 20.5
T_ANQ      732 15.2 13.0| 722 13.5  9.9| 836 17.7 14.2| 799 14.3  9.9| 729 10.7  7.7| 688 15.8 14.0| 798 20.2 16.4
MG          31 13.6 10.1| 147 11.1  9.3| 593 24.4 22.4| 612 18.3 13.4| 800 30.2 20.3| 904 37.8 27.8| 891 28.8 17.7
ONE_O_ONE    0  0.0  0.0|   8  1.5  0.1| 530 15.4 18.5| 509  7.4  4.7| 694 29.6 20.3| 631 34.2 28.3| 639 24.9 19.8
DV         203 15.6 15.6| 371 14.0  9.4| 272 12.8  9.0| 381 14.6 11.3| 235 15.0 13.8| 210 12.7 10.5| 303 13.3 11.7
ADMIN      712  9.5  8.0| 773  7.9  5.4| 847 11.6  9.9| 824  9.0  6.0| 776 11.8  9.5| 898 14.5 12.1| 891 11.9  9.5
T_W        268  6.4  5.8| 581 14.1 11.2| 522 11.3 10.3| 645 15.5 14.2| 400 15.3 12.3| 414 12.0 10.9| 487 12.5 10.8
T_O        178 19.0 26.9| 178  6.4  4.4| 373 11.8 12.1| 234  7.4  5.8| 235  7.4  6.2| 274 14.6 18.6| 277  8.2  6.1
"""

# Instructors by number of classes, from 1 on.
CLASSES_PER_INSTRUCTOR = {
    **{1: 159, 2: 140, 3: 107, 4: 39, 5: 27, 6: 26, 7: 12, 8: 9, 9: 6, 10: 4, 11: 5},
    **{12: 5, 13: 2, 14: 1, 16: 1, 18: 1, 21: 1, 27: 1, 33: 1},
}
# Columns about the course, with the shares of their values; "" is a missing cell.
COURSE = {
    "Semester": {"Fall": 0.32, "Spring": 0.29, "Winter": 0.02, "pre": 0.06, "mid": 0.01, "post": 0.04, "": 0.26},
    "Year": {"2012": 0.03, "2013": 0.05, "2014": 0.17, "2015": 0.13, "2016": 0.25, "": 0.37},
    "Broader": {
        **{"Chemical": 0.35, "Biological": 0.29, "Mathematics": 0.10, "Engineering": 0.08, "Physical": 0.08},
        **{"Geological": 0.06, "Computer": 0.03, "Missing": 0.01},
    },
    "Level": {"100": 0.57, "200": 0.15, "300": 0.14, "400": 0.05, "Graduate": 0.05, "": 0.04},
    "Size": {"Large": 0.44, "Medium": 0.15, "Small": 0.28, "": 0.13},
    "Layout": {"Fixed": 0.38, "Table": 0.17, "Other": 0.02, "": 0.43},
}
WITHOUT_COURSE_ID = 0.37
SECOND_COURSE = 0.25  # share of instructors with two courses
LENGTHS = ((22, 28), (34, 40))  # two-minute intervals of a 50- and a 75-minute class, observed from … to


def read_table() -> tuple[list[str], np.ndarray]:
    """Returns the 25 codes and their (share, mean, standard deviation) by profile, [7, 25, 3], as fractions of 1."""
    codes, figures = [], []
    for line in TABLE.strip().splitlines():
        code, rest = line.split(maxsplit=1)
        codes.append(code)
        figures.append([[float(figure) for figure in triple.split()] for triple in rest.split("|")])
    return codes, np.array(figures).transpose(1, 0, 2) / [1000, 100, 100]  # [25, 7, 3] -> [7, 25, 3]


def draw(n_classes: int = N_CLASSES, seed: int = SEED) -> list[list[str]]:
    """Returns the sample as rows of text, the header first."""
    random = np.random.RandomState(seed)  # its stream is frozen; default_rng's may change with NumPy
    codes, figures = read_table()
    instructor, ids = _draw_instructors(random, n_classes)
    course, about = _draw_courses(random, instructor)
    profile = _draw_profiles(random, instructor)
    intervals, marked = _draw_marks(random, figures[profile], instructor, course)
    header = ["Instructor ID", "Course ID", *COURSE, *codes, "Cluster", "Bcluster"]
    rows = []
    for i in range(n_classes):
        percentages = [f"{100 * k / intervals[i]:.1f}" for k in marked[i]]
        rows.append([ids[i], *about[course[i]], *percentages, str(profile[i] + 1), STYLES[profile[i]]])
    return [header, *rows]


def _draw_instructors(random: np.random.RandomState, n_classes: int) -> tuple[np.ndarray, list[str]]:
    """Returns the instructor of each class, [N], and the ID to print; a class without an ID has its own instructor."""
    n_with_id = n_classes - round(WITHOUT_ID * n_classes)
    sizes, counts = np.array(list(CLASSES_PER_INSTRUCTOR.items())).T
    drawn = random.choice(sizes, size=n_with_id, p=counts / counts.sum())  # at least as many classes as needed
    with_id = np.repeat(np.arange(n_with_id), drawn)[:n_with_id]
    without_id = with_id[-1] + 1 + np.arange(n_classes - n_with_id)
    return np.concatenate([with_id, without_id]), [*(str(i + 1) for i in with_id), *([""] * len(without_id))]


def _draw_courses(random: np.random.RandomState, instructor: np.ndarray) -> tuple[np.ndarray, list[list[str]]]:
    """Returns the course of each class, [N], and for each course its ID and the columns of COURSE."""
    n_instructors = instructor[-1] + 1
    has_second = random.random_sample(n_instructors) < SECOND_COURSE
    second = has_second[instructor] & (random.random_sample(len(instructor)) < 0.5)
    _, course = np.unique(2 * instructor + second, return_inverse=True)
    n_courses = course.max() + 1
    without_id = random.random_sample(n_courses) < WITHOUT_COURSE_ID
    columns = [
        random.choice(list(shares), size=n_courses, p=list(shares.values())).tolist() for shares in COURSE.values()
    ]
    ids = ["" if missing else str(i + 1) for i, missing in enumerate(without_id)]
    return course, [list(about) for about in zip(ids, *columns, strict=True)]


def _draw_profiles(random: np.random.RandomState, instructor: np.ndarray) -> np.ndarray:
    """Returns the profile of each class, [N], counted from 0."""
    shares = np.array(PROFILE_SHARES) / sum(PROFILE_SHARES)
    home = random.choice(len(shares), size=instructor[-1] + 1, p=shares)
    own = random.choice(len(shares), size=len(instructor), p=shares)
    keeps = random.random_sample(len(instructor)) < KEEPS_PROFILE
    return np.where(keeps, home[instructor], own)


def _draw_marks(
    random: np.random.RandomState, figures: np.ndarray, instructor: np.ndarray, course: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the number of intervals of each class, [N], and in how many of them each code was marked, [N, 25].

    `figures` [N, 25, 3] are the statistics of each class's profile. Where a code occurs, k - 1 follows a beta
    distribution over 0 … n - 1, so that k has exactly the mean of the table, or is 1 where that mean is less than one
    interval.
    """
    share, mean, sd = np.moveaxis(figures, 2, 0)  # 3 × [N, 25]
    low, high = np.array(LENGTHS)[random.randint(2, size=course.max() + 1)[course]].T
    n = low + np.floor(random.random_sample(len(course)) * (high - low + 1)).astype(int)
    habit = random.random_sample((instructor[-1] + 1, share.shape[1]))[instructor]
    own = random.random_sample(share.shape)
    occurs = np.where(random.random_sample(share.shape) < KEEPS_HABIT, habit, own) < share

    more = n[:, None] - 1
    center = np.clip((mean * (more + 1) - 1) / more, 1e-6, 1 - 1e-6)
    variance = np.clip((sd * (more + 1) / more) ** 2, 1e-9, 0.9 * center * (1 - center))
    weight = center * (1 - center) / variance - 1
    position = random.beta(center * weight, (1 - center) * weight)  # in [0, 1]
    k = 1 + np.floor(position * more + random.random_sample(share.shape)).astype(int)  # rounded without bias
    return n, np.where(occurs, k, 0)


def main() -> None:
    """Writes the sample to a file."""
    parser = argparse.ArgumentParser(description="Draws the synthetic sample.")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("sample.csv"))
    output: Path = parser.parse_args().output
    output.write_text("".join(",".join(row) + "\n" for row in draw()), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
